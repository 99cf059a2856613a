# What there is.
default:
    @just --list

# Everything CI checks, in its order.
ci: fmt clippy test doc deny

# Format, without changing anything.
fmt:
    cargo fmt --check

# Lints; a warning is an error.
clippy:
    cargo clippy --all-targets --locked -- -D warnings

# All tests.
test:
    cargo test --locked

# Look for inputs that break a promise, in one fuzz target or all (CONTRIBUTING.md).
fuzz target="" seconds="300":
    fuzz/run {{seconds}} {{target}}

# Documentation without a warning.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# Licences, duplicates, advisories, sources.
deny:
    cargo deny check

# Simulator and gateway, nothing to configure.
demo *arguments:
    cargo run --release -- demo {{arguments}}

# The program without a library to load, for images and for any Linux of this kind of processor.
static:
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu

# All faults of a configuration.
check *arguments:
    cargo run --release -- check {{arguments}}

# Duplicate crates, which should be none but build-time ones.
duplicates:
    cargo tree --duplicates --edges normal,build
