"""Checks the documentation: its pages, links, names, examples and commands.

`pages` parses Markdown, `console` extracts commands and their expected output, `running` runs them. Nothing here knows
what a page should contain; the tests do.
"""
