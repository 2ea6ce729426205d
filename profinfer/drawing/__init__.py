"""What queries answer, for people and for programs: tables, charts, graphs, pages.

Draws rows and knows no SQL beyond the names of ready queries and modules; opens no trace itself.
Every name in a row is untrusted text.
"""
