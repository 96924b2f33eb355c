/* SPDX-License-Identifier: MIT */
/* Finds the libc functions behind ours; the only file that calls dlsym. */
#include "base/next.h"

#include <dlfcn.h>
#include <errno.h>

/*
 * Stands for a function that this libc lacks: an older glibc has no closefrom. No program was linked against such a
 * function, so none calls it. A call that reaches it nevertheless gets ENOSYS, as from the kernel.
 */
static long missing(void)
{
	errno = ENOSYS;
	return -1;
}

static void *resolve(const char *name)
{
	int saved_errno = errno;
	void *found = dlsym(RTLD_NEXT, name);

	errno = saved_errno;
	return found ? found : (void *)(size_t)missing;
}

/*
 * Variadic functions (open, fcntl, ioctl, syscall) have all their possible arguments here. On every Linux ABI that
 * we build for, integer and pointer arguments travel the same way whether or not the callee is variadic.
 */
#define ROW(ret, name, params, args)                                                                                   \
	static ret first_##name params                                                                                 \
	{                                                                                                              \
		next_##name = (ret(*) params)resolve(#name);                                                           \
		return next_##name args;                                                                               \
	}                                                                                                              \
	ret(*next_##name) params = first_##name;
#include "base/next.def"
#undef ROW

void next_resolve(void)
{
#define ROW(ret, name, params, args) next_##name = (ret(*) params)resolve(#name);
#include "base/next.def"
#undef ROW
}
