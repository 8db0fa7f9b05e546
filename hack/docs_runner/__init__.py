"""The documentation as something that can be wrong: its pages, links, names, examples and commands.

`pages` reads Markdown, `console` reads what a page says is typed and printed, `running` types it. Nothing here knows
what a page should say; that is in the tests.
"""
