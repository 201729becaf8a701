"""The embedded AWS account of `inventories/local`: moto's server with its gaps closed.

`python -m emulator` starts it. See README.md.
"""
