//! The fuzz targets, run shortly and the same each time: the whole corpus, and mutations of it.
//!
//! A promise that holds for these few thousand inputs may still break; `just fuzz` looks for hours
//! where this looks for seconds. What it finds goes into `fuzz/corpus` under a name that says what
//! it was, and from then on it is tried here.

use std::cell::Cell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

mod mutation;
#[expect(unreachable_pub, reason = "for the programs in fuzz/ it is a library")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use mutation::Mutator;

/// The same inputs each time.
const SEED: u64 = 0x6d6f_6465_6e00;

/// An input with a name.
type Entry = (String, Vec<u8>);

#[test]
fn an_accepted_path_is_plain_unchanged_and_ours() {
    run("path", targets::path, 20_000);
}

#[test]
fn cleaned_headers_hold_what_may_travel_and_nothing_else() {
    run("headers", targets::headers, 10_000);
}

#[test]
fn no_configuration_shows_a_value_or_changes_when_it_is_printed() {
    run("configuration", targets::configuration, 5_000);
}

#[test]
fn the_framing_guard_and_hyper_find_the_same_messages() {
    run("framing", targets::framing, 5_000);
}

#[test]
fn no_bytes_make_more_requests_than_a_strict_reader_finds() {
    run("request", targets::request, 1_000);
}

#[test]
fn no_answer_looks_whole_that_is_not() {
    run("answer", targets::answer, 1_000);
}

/// Calls a target with every entry of its corpus, and with this many mutations of them.
fn run(name: &str, target: fn(&[u8]), mutations: usize) {
    let corpus = read_corpus(name);
    assert!(corpus.len() >= 10, "the corpus of {name} is gone");
    let broken: Vec<_> = corpus
        .iter()
        .filter(|(_, input)| !holds(target, input))
        .map(|(entry, _)| entry)
        .collect();
    assert!(broken.is_empty(), "promises broken by {broken:#?}");

    let inputs = corpus.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(SEED, inputs, read_dictionary(name));
    for number in 0..mutations {
        let input = mutator.next_input();
        assert!(
            holds(target, &input),
            "a promise is broken by mutation {number}; as a file of fuzz/corpus/{name} it is:\n{}",
            input.escape_ascii()
        );
    }
}

/// Calls a target; false if anything panics on the way, also in a task of its own.
fn holds(target: fn(&[u8]), input: &[u8]) -> bool {
    count_panics();
    PANICS.set(0);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    ended.is_ok() && PANICS.get() == 0
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of each thread: a runtime catches those of its tasks.
fn count_panics() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

fn read_corpus(target: &str) -> Vec<Entry> {
    let folder = root().join("corpus").join(target);
    let mut corpus: Vec<Entry> = fs::read_dir(&folder)
        .expect("the corpus can be listed")
        .map(|entry| {
            let path = entry.expect("the corpus can be listed").path();
            let name = path.strip_prefix(root()).expect("it is below");
            let input = fs::read(&path).expect("an entry can be read");
            (name.display().to_string(), input)
        })
        .collect();
    // Folders are listed in any order, and mutations shall be the same each time.
    corpus.sort();
    corpus
}

/// The words of a dictionary in libFuzzer's form: `name="text"`, with `\xNN`, `\\` and `\"`.
fn read_dictionary(target: &str) -> Vec<Vec<u8>> {
    let path = root().join("dictionaries").join(format!("{target}.dict"));
    let text = fs::read_to_string(path).expect("the dictionary can be read");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('"')?.1.strip_suffix('"'))
        .map(unescaped)
        .collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'\\' => match rest.next() {
                Some(b'x') => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
                }
                other => other.expect("a character after a backslash"),
            },
            byte => byte,
        };
        bytes.push(byte);
    }
    bytes
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}
