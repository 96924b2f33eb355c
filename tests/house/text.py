# SPDX-License-Identifier: MIT
"""What the text of the sources is measured by: includes, the length of files, functions and lines."""

import re

FILE_MAX = 500
FUNCTION_MAX = 60
LINE_MAX = 120
TAB = 8

# The first name before a parenthesis that is no attribute.
HEAD = re.compile(r"(?:__attribute__\(\(.*?\)\)+ *)*[\w *]*?(?<!\w)(?!__attribute__)(\w+)\(")
INCLUDE = re.compile(r'^#include "(\w+)/[\w/]+\.h"')


def includes(text):
    """The rooms of the headers that a file includes, each with the line that does."""
    return [(match[1], match[0]) for line in text.splitlines() if (match := INCLUDE.match(line))]


def functions(text):
    """(name, lines of the body) of each. In the kernel's style a body, and nothing else, has its braces in column 0."""
    found, began, head = [], None, ""
    for number, line in enumerate(text.splitlines()):
        if line == "{":
            began = number
        elif line == "}" and began is not None:
            found.append((head, number - began - 1))
            began = None
        elif began is None and (match := HEAD.match(line)):
            head = match[1]
    return found


def long_lines(text):
    return [number for number, line in enumerate(text.splitlines(), 1) if len(line.expandtabs(TAB)) > LINE_MAX]


def statics(source):
    """The names of its static functions."""
    bare = re.sub(r"__attribute__\(\(.*?\)\)", "", source)
    return set(re.findall(r"^static\s+(?:\w+\s+)+\**(\w+)\((?=[^;]*$)", bare, re.MULTILINE))
