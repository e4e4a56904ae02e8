"""Models of others, without trusting them: read the file (``reading``), find its network (``fitting``), find out how it
is to be run (``detecting``), evaluate it like any other (``running``).
"""
