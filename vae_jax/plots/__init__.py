"""The plots of a run or sweep, one module for each.

Matplotlib is imported where it is used: it takes a second.
"""
