"""What people look at: the live display, tables, Markdown, JUnit XML, and the site's pages.

It shows values and starts nothing. It alone may import `rich`, `jinja2` and `scipy`.
"""
