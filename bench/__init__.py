"""Benchmarks: Whimbrel and what people do today, measured in the same run on the same data; ratios are printed."""
