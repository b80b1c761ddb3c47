"""Cut a text of SQL into its statements, for people to read. Nothing is run by it: what is run is the whole text."""

import re

# What may hold a semicolon that ends no statement, and the semicolon itself.
_TOKEN = re.compile(
    r"""
      --[^\n]*
    | /\*.*?\*/
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)


def statements(text: str) -> list[str]:
    """The statements of a text, each with the comments above it and without its semicolon.

    >>> statements("CREATE TABLE a (b text DEFAULT ';'); -- and\\nDROP TABLE a;")
    ["CREATE TABLE a (b text DEFAULT ';')", '-- and\\nDROP TABLE a']
    """
    found, start = [], 0
    for token in _TOKEN.finditer(text):
        if token["end"]:
            found.append(text[start : token.start()].strip())
            start = token.end()
    found.append(text[start:].strip())
    return [each for each in found if _is_statement(each)]


def _is_statement(text: str) -> bool:
    return bool(re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL).strip())
