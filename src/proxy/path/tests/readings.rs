//! The ways in which a server behind the gateway might read a path once more.
//!
//! Each maps the bytes of a path to the bytes that such a server would go on with.

/// One way of reading a path.
type Reading = fn(&[u8]) -> Vec<u8>;

/// All of them; a chain of readings is a list of places in here.
pub(super) const ALL: [Reading; 14] = [
    letter_case_folded,
    percent_decoded,
    percent_decoded_twice,
    percent_decoded_three_times,
    overlong_decoded,
    full_width_folded,
    cut_at_nul,
    cut_at_fragment,
    controls_dropped,
    parameters_stripped,
    backslashes_turned,
    slashes_collapsed,
    dot_segments_removed,
    absolute_form_stripped,
];

/// The place of the one reading that changes even a plain path.
pub(super) const LETTER_CASE: usize = 0;

/// Every reading after the other, in the order in which a careless server would apply them.
pub(super) const THOROUGH: [usize; 14] = [13, 7, 3, 4, 5, 8, 6, 7, 10, 9, 11, 12, 1, 0];

fn letter_case_folded(path: &[u8]) -> Vec<u8> {
    path.to_ascii_lowercase()
}

fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut left = path;
    while let [byte, after @ ..] = left {
        let quoted = match left {
            [b'%', high, low, after @ ..] => hex(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (meant, after) = quoted.unwrap_or((*byte, after));
        read.push(meant);
        left = after;
    }
    read
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let value = |digit| char::from(digit).to_digit(16);
    u8::try_from(value(high)? << 4 | value(low)?).ok()
}

fn percent_decoded_twice(path: &[u8]) -> Vec<u8> {
    percent_decoded(&percent_decoded(path))
}

fn percent_decoded_three_times(path: &[u8]) -> Vec<u8> {
    percent_decoded(&percent_decoded_twice(path))
}

/// Takes ASCII that is spelled with more bytes than UTF-8 allows for what it means.
fn overlong_decoded(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut left = path;
    while let [byte, after @ ..] = left {
        let (meant, after) = match left {
            [lead @ 0xc0..=0xc1, tail @ 0x80..=0xbf, after @ ..]
            | [0xe0, lead @ 0x80..=0x81, tail @ 0x80..=0xbf, after @ ..] => {
                ((lead & 1) << 6 | (tail & 0x3f), after)
            }
            _ => (*byte, after),
        };
        read.push(meant);
        left = after;
    }
    read
}

/// Folds compatibility characters as NFKC does: `．` is `.`, `／` is `/`, `ſ` is `s`.
fn full_width_folded(path: &[u8]) -> Vec<u8> {
    let Ok(text) = str::from_utf8(path) else {
        return path.to_vec();
    };
    let fold = |character: char| match character {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
        }
        'ſ' => 's',
        other => other,
    };
    text.chars().map(fold).collect::<String>().into_bytes()
}

fn cut_at_nul(path: &[u8]) -> Vec<u8> {
    cut_at(path, 0)
}

fn cut_at_fragment(path: &[u8]) -> Vec<u8> {
    cut_at(path, b'#')
}

fn cut_at(path: &[u8], end: u8) -> Vec<u8> {
    path.split(|byte| *byte == end)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// Drops tabs and line ends, as browsers' URL parsers do.
fn controls_dropped(path: &[u8]) -> Vec<u8> {
    path.iter()
        .copied()
        .filter(|byte| !b"\t\r\n".contains(byte))
        .collect()
}

fn parameters_stripped(path: &[u8]) -> Vec<u8> {
    segments(path)
        .map(|segment| cut_at(segment, b';'))
        .collect::<Vec<_>>()
        .join(&b'/')
}

fn backslashes_turned(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
        .collect()
}

/// Collapses empty segments, and trims a slash at the end.
fn slashes_collapsed(path: &[u8]) -> Vec<u8> {
    segments(path)
        .filter(|segment| !segment.is_empty())
        .flat_map(|segment| [b"/", segment].concat())
        .collect()
}

/// Removes dot segments.
///
/// # Source
/// RFC 3986, 5.2.4.
fn dot_segments_removed(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut last_was_dots = false;
    for segment in segments(path).skip(1) {
        last_was_dots = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    if last_was_dots {
        kept.push(b"");
    }
    kept.into_iter()
        .flat_map(|segment| [b"/", segment].concat())
        .collect()
}

/// Takes `scheme://authority/path` for the path, and `//authority/path` too.
fn absolute_form_stripped(path: &[u8]) -> Vec<u8> {
    let text = path.to_vec();
    let Some(at) = path.windows(2).position(|pair| pair == b"//") else {
        return text;
    };
    let (scheme, after) = path.split_at(at);
    let is_scheme = scheme.is_empty() || (scheme.ends_with(b":") && !scheme.contains(&b'/'));
    let authority_end = after.iter().skip(2).position(|byte| *byte == b'/');
    match authority_end {
        Some(end) if is_scheme => after.iter().skip(2 + end).copied().collect(),
        _ => text,
    }
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

#[test]
fn reads_as_the_worst_servers_do() {
    let cases: [(Reading, &str, &str); 14] = [
        (letter_case_folded, "/Pay/SandBox", "/pay/sandbox"),
        (percent_decoded, "/s%61nd%2e%2E%2fx%", "/sand../x%"),
        (percent_decoded_twice, "/%252e", "/."),
        (percent_decoded_three_times, "/%25252e", "/."),
        (full_width_folded, "/．．／ſ", "/../s"),
        (cut_at_nul, "/sandbox\0x", "/sandbox"),
        (cut_at_fragment, "/a#b", "/a"),
        (controls_dropped, "/san\tdb\r\nox", "/sandbox"),
        (parameters_stripped, "/..;a=b/x;y", "/../x"),
        (backslashes_turned, "/..\\x", "/../x"),
        (slashes_collapsed, "//a//b/", "/a/b"),
        (dot_segments_removed, "/a/./b/../../c/..", "/"),
        (dot_segments_removed, "/pay/../../x", "/x"),
        (
            absolute_form_stripped,
            "http://evil.example/pay/a",
            "/pay/a",
        ),
    ];
    for (reading, path, expected) in cases {
        let read = reading(path.as_bytes());
        assert_eq!(String::from_utf8_lossy(&read), expected, "{path:?}");
    }
    assert_eq!(
        overlong_decoded(b"/\xc0\xae\xe0\x80\xae\xc0\xafx"),
        b"/../x"
    );
}
