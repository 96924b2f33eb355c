# SPDX-License-Identifier: MIT
"""How some cases are started, and what is checked from outside of any one program."""

# name of a case -> (room) -> keywords of subprocess.Popen, "env" and "arguments"
STARTS = {}

# name -> (build directory): raises Wrong when it fails
CHECKS = {}
