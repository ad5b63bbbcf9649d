"""What travels, where, and who receives it: imported by device, bridge, Lambdas and infrastructure; imports nothing.

Standard library only, Python 3.5 and later: the Raspberry Pi runs Raspbian Stretch.
"""
