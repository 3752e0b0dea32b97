"""What a compiled model costs on its core: instructions, modelled cycles, stack, flash."""
