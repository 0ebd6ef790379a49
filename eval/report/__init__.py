"""The report of a run, a subject a module.

columns   what the table's columns are, and what they mean
reading   metrics folders and the run's records → rows, items, curves, commands
table     rows → the table
figures   rows and curves → pictures
sections  the other sections
page      parts in HTML and in Markdown at once, and the page they make
"""
