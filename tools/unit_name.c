/* SPDX-License-Identifier: MIT */
/* The name of a service, from the word that the user gave. */
#define _GNU_SOURCE
#include "unit_name.h"

#include <string.h>

static bool is_another_type(const char *suffix)
{
	static const char *const types[] = {".socket", ".target", ".timer", ".path",  ".mount", ".automount",
					    ".swap",   ".device", ".slice", ".scope", NULL};

	for (size_t i = 0; suffix && types[i]; i++)
		if (!strcmp(suffix, types[i]))
			return true;
	return false;
}

bool unit_name(const char *word, char *name, size_t size, struct text *why)
{
	static const char suffix[] = ".service";
	struct text t = text_on(name, size);
	const char *dot = strrchr(word, '.'), *at = strchr(word, '@');

	text_add(&t, word);
	if (!dot || strcmp(dot, suffix))
		text_add(&t, suffix);
	if (strpbrk(word, "*?["))
		text_add(why, "this is a pattern: name each unit"); /* systemctl enable takes none either */
	else if (t.cut || !*word || *word == '.' || *word == '-' || strpbrk(word, "/ \t\n"))
		text_add(why, "this is not the name of a unit: `systemctl list-units --type=service` shows them");
	else if (is_another_type(dot))
		text_add(why, "only services can be put under cpr");
	else if (at && (!at[1] || !strcmp(at + 1, suffix)))
		text_add(why, "it is a template: name an instance, UNIT@NAME");
	else
		return true;
	return false;
}
