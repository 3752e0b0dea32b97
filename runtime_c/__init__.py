"""C run-time: kernels, boards, targets. Data files; nothing to import."""
