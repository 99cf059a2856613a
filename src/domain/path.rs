//! The path that everything in the gateway sees, and the characters it may hold.
//!
//! For: one spelling of a path that routes, entitlement, limits and the order guard share, and that
//! is sent. Never does: read what a client wrote; `proxy::path` does that and is the only maker of
//! a [`CanonicalPath`]. Called by: `config`, `routing`, `proxy`. Start reading at
//! [`CanonicalPath`].

use std::borrow::Cow;

/// What every canonical path begins with.
const PREFIX: &str = "/pay";

/// Characters that a path may hold unquoted, though they are not unreserved, without meaning
/// something else to an upstream that reads the path again.
///
/// This is `pchar` without `%` (a second spelling of any character) and `;` (parameters that many
/// servers strip).
///
/// # Source
/// RFC 3986, 3.3 (`pchar`) and 2.2 (`sub-delims`).
const PERMITTED_EXTRA: &str = "!$&'()*+,=:@";

/// The one text of a request's path, `/pay/<rest>`, with the query as it came.
///
/// It names the endpoint only: the sandbox's prefix is not part of it, so both environments match
/// the same routes. Its lifetime is that of the request's target, from which it borrows unless a
/// prefix had to be cut out of the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'t> {
    path: Cow<'t, str>,
    query: Option<&'t str>,
}

impl<'t> CanonicalPath<'t> {
    /// Takes a text that the resolver has found to be canonical; nobody else calls this.
    pub(crate) fn new(path: impl Into<Cow<'t, str>>, query: Option<&'t str>) -> Self {
        let path = path.into();
        debug_assert!(path.starts_with("/pay/"), "a canonical path is below /pay/");
        Self { path, query }
    }

    /// The whole path, such as `/pay/gateway`.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// What follows `/pay`, such as `/gateway`; this is appended to the base URL.
    pub fn rest(&self) -> &str {
        self.path
            .strip_prefix(PREFIX)
            .expect("a canonical path begins with /pay")
    }

    /// What follows the question mark, byte for byte; `Some("")` if nothing does.
    pub fn query(&self) -> Option<&'t str> {
        self.query
    }
}

/// The characters that a segment of a path may hold: the unreserved ones and what `path_extra`
/// adds.
///
/// It can never hold `%`, `/`, `\`, `;`, `?`, `#`, a space, a control or anything beyond ASCII.
/// Built at load; a look-up is one read of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCharacters([bool; 128]);

impl PathCharacters {
    /// Letters, digits, `-`, `.`, `_` and `~`.
    ///
    /// # Source
    /// RFC 3986, 2.3.
    pub fn unreserved() -> Self {
        let mut table = [false; 128];
        for (byte, allowed) in (0_u8..).zip(&mut table) {
            *allowed = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        }
        Self(table)
    }

    /// Whether `path_extra` may name this character; the configuration refuses the others.
    pub fn permits_extra(character: char) -> bool {
        PERMITTED_EXTRA.contains(character)
    }

    /// Adds what a route's `path_extra` names. What it may not name is left out, so that a path
    /// with such a character stays refused.
    pub fn with_extra(mut self, extra: &str) -> Self {
        for byte in extra
            .bytes()
            .filter(|byte| Self::permits_extra(char::from(*byte)))
        {
            if let Some(allowed) = self.0.get_mut(usize::from(byte)) {
                *allowed = true;
            }
        }
        self
    }

    /// Whether every segment of the path consists of these characters alone.
    pub fn spell(&self, path: &str) -> bool {
        path.bytes().all(|byte| byte == b'/' || self.contains(byte))
    }

    fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_allows_what_could_be_read_as_something_else() {
        let everything: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        let characters = PathCharacters::unreserved().with_extra(&everything);
        let held: String = ('\0'..='\u{7f}')
            .filter(|c| characters.spell(&c.to_string()))
            .collect();
        assert_eq!(
            held,
            "!$&'()*+,-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
        );
        assert!(!characters.spell("é"));
    }

    #[test]
    fn allows_only_unreserved_characters_unless_told_otherwise() {
        let characters = PathCharacters::unreserved();
        assert!(characters.spell("/pay/a-Z.0_~"));
        assert!(!characters.spell("/pay/a:b"));
        assert!(characters.with_extra(":").spell("/pay/a:b"));
    }

    #[test]
    fn gives_the_rest_and_the_query_apart() {
        let path = CanonicalPath::new("/pay/inquire/wallet", Some("a=b?c"));
        assert_eq!(path.as_str(), "/pay/inquire/wallet");
        assert_eq!(path.rest(), "/inquire/wallet");
        assert_eq!(path.query(), Some("a=b?c"));
    }
}
