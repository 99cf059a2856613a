//! What the gateway promises, one module for each promise of the design; each test is a sentence.

mod config_files;
