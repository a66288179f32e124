"""Between the wire and the domain: requests are checked and turned into domain words, and back.

Nothing here decides anything; whatever is wrong with a request's shape is named by field with what to do about it.
"""
