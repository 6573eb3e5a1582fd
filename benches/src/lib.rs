//! Benchmarks, side by side with what others wrote.
