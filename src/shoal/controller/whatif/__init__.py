"""What-if, asked and answered in words and names.

::

    asked    the request, checked and resolved
    work     the thinking, away from the event loop
    answer   the document that comes of it
    verdict  its first lines, for a tired operator
    margins  how many engines each group may lose, kept current
"""
