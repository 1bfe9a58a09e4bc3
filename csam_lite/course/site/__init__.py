"""The public site: static pages of the notebooks, the reference, the results and the explorer.

The interface to the generator of the site is a folder of Markdown, so that another generator can take over:
`markdown.py` writes notebooks, `reference.py` the public names, and `build.py` puts all together.
"""
