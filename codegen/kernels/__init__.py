"""Providers of optimised kernels, one module per instruction set and kind of layer.

A module here with ``ISA``, ``OPERATORS`` and ``variants`` (``qcc.codegen.variants.Provider``) is
found by itself; the C it calls lies in ``runtime_c/isa/<ISA>``. docs/adding-a-kernel.md walks
through one.
"""
