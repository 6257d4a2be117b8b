"""The page: runs, their timelines and their models in a browser. docs/page.md follows a click through it."""
