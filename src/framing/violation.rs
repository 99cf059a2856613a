//! What can be wrong with the framing of a message.

use std::fmt;

/// What a client is told of a violation.
///
/// # Source
/// RFC 9112 sections 3 (414), 6.1 (501) and 6.3 (400 where `chunked` is not last); RFC 9110 section
/// 15.6.6 (505); RFC 6585 section 5 (431).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The message is malformed: 400.
    Malformed,
    /// The target is too long: 414.
    TargetTooLong,
    /// The head is too large: 431.
    HeadTooLarge,
    /// It wants something that is not implemented here: 501.
    NotImplemented,
    /// Its version is not supported: 505.
    VersionNotSupported,
}

/// Makes [`Violation`] from one table: the fact, what it means, and how it is told.
macro_rules! violations {
    ($($(#[$doc:meta])* $violation:ident => $meaning:ident, $text:literal;)*) => {
        /// A fact about a message that makes its framing doubtful; the connection cannot be used
        /// further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Violation {
            $($(#[$doc])* $violation,)*
        }

        impl Violation {
            /// What it means for a request.
            pub const fn meaning(self) -> Meaning {
                match self {
                    $(Self::$violation => Meaning::$meaning,)*
                }
            }

            /// The fact as a clause, such as "the Content-Length is invalid".
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$violation => $text,)*
                }
            }
        }
    };
}

violations! {
    /// A line feed without a carriage return before it, in a head, a chunk line or trailers.
    BareLineFeed => Malformed, "a line ends without a carriage return";
    /// A carriage return without a line feed behind it.
    BareCarriageReturn => Malformed, "a carriage return stands within a line";
    /// More than one empty line before a request, or any before an answer.
    EmptyLines => Malformed, "empty lines stand before the message";
    /// Not a method, a target and a version with one space between them.
    RequestLine => Malformed, "the request line is malformed";
    /// A request line without a version, as in HTTP/0.9.
    NoVersion => Malformed, "the request line names no version";
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version => VersionNotSupported, "the version is not supported";
    /// A `#` in the target: hyper would cut off what follows.
    Fragment => Malformed, "the target has a fragment";
    /// No end of the request line within the longest head.
    RequestLineTooLong => TargetTooLong, "the request line is too long";
    /// Not a version and a three-digit status.
    StatusLine => Malformed, "the status line is malformed";
    /// An answer 101, which nobody has asked for.
    SwitchingProtocols => Malformed, "the answer switches protocols";
    /// A head longer than its limit; for answers, all heads up to the final one together.
    HeadTooLong => HeadTooLarge, "the head is too long";
    /// More field lines than allowed, in a head or in trailers.
    TooManyFields => HeadTooLarge, "there are too many fields";
    /// Whitespace before the first field.
    LeadingWhitespace => Malformed, "whitespace stands before the first field";
    /// A field that is continued on the next line.
    Folded => Malformed, "a field is folded";
    /// A field line that begins with a colon.
    EmptyName => Malformed, "a field has no name";
    /// Whitespace between the name of a framing field and its colon.
    SpaceBeforeColon => Malformed, "whitespace stands before the colon of a field";
    /// `Content-Length` is no number, or none that can be counted to.
    ContentLength => Malformed, "the Content-Length is invalid";
    /// Two values of `Content-Length` that differ.
    ContentLengthConflict => Malformed, "there are different Content-Lengths";
    /// Both ways to say how long the body is.
    TwoFramings => Malformed, "Content-Length stands beside Transfer-Encoding";
    /// `Transfer-Encoding` in a message of HTTP/1.0.
    CodingInOldVersion => Malformed, "Transfer-Encoding stands in HTTP/1.0";
    /// A coding other than `chunked` is applied before it.
    UnknownCoding => NotImplemented, "the transfer coding is unknown";
    /// The last coding is not `chunked`.
    ChunkedNotLast => Malformed, "chunked is not the last transfer coding";
    /// `chunked` twice, or `Transfer-Encoding` on several lines.
    RepeatedCoding => Malformed, "Transfer-Encoding stands there more than once";
    /// A chunk's size is no hexadecimal number, or none that can be counted to.
    ChunkSize => Malformed, "the size of a chunk is invalid";
    /// A chunk's data goes on where its end was announced.
    ChunkEnd => Malformed, "a chunk is longer than announced";
    /// The chunk extensions of a message are longer than anybody needs.
    ExtensionsTooLong => Malformed, "the chunk extensions are too long";
    /// The trailers are longer than anybody needs.
    TrailersTooLong => Malformed, "the trailers are too long";
    /// A trailer line without a colon.
    TrailerLine => Malformed, "a trailer is no field";
    /// A control character, such as NUL, in a chunk line or in trailers; in heads hyper refuses
    /// them.
    ControlCharacter => Malformed, "there is a control character";
    /// Bytes of an answer where no request is outstanding.
    Unasked => Malformed, "something came unasked";
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for Violation {}
