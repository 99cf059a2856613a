//! The words after the name of a benchmark.

/// What the caller wrote; cargo adds `--bench` of its own.
pub(crate) fn given() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect()
}
