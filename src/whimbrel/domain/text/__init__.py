"""Texts that come from elsewhere: errors, values, addresses, made safe to store and to show.

Not here: masking of passwords (`whimbrel.masking`), which the whole program uses.
Imports no other package of the domain.
"""
