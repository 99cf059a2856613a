//! What can be wrong with the framing of a message.

/// A fact about a message that makes its framing doubtful; the connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line feed without a carriage return before it, in a head, a chunk line or trailers.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// A carriage return without a line feed behind it.
    #[error("a carriage return stands within a line")]
    BareCarriageReturn,
    /// More than one empty line before a request, or any before an answer.
    #[error("empty lines stand before the message")]
    EmptyLines,
    /// Not a method, a target and a version with one space between them.
    #[error("the request line is malformed")]
    RequestLine,
    /// A request line without a version, as in HTTP/0.9.
    #[error("the request line names no version")]
    NoVersion,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("the version is not supported")]
    Version,
    /// A `#` in the target: hyper would cut off what follows.
    #[error("the target has a fragment")]
    Fragment,
    /// No end of the request line within the longest head.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// Not a version and a three-digit status.
    #[error("the status line is malformed")]
    StatusLine,
    /// An answer 101, which nobody has asked for.
    #[error("the answer switches protocols")]
    SwitchingProtocols,
    /// A head longer than its limit; for answers, all heads up to the final one together.
    #[error("the head is too long")]
    HeadTooLong,
    /// More field lines than allowed, in a head or in trailers.
    #[error("there are too many fields")]
    TooManyFields,
    /// Whitespace before the first field.
    #[error("whitespace stands before the first field")]
    LeadingWhitespace,
    /// A field that is continued on the next line.
    #[error("a field is folded")]
    Folded,
    /// A field line that begins with a colon.
    #[error("a field has no name")]
    EmptyName,
    /// Whitespace between the name of a framing field and its colon.
    #[error("whitespace stands before the colon of a field")]
    SpaceBeforeColon,
    /// `Content-Length` is no number, or none that can be counted to.
    #[error("the Content-Length is invalid")]
    ContentLength,
    /// Two values of `Content-Length` that differ.
    #[error("there are different Content-Lengths")]
    ContentLengthConflict,
    /// Both ways to say how long the body is.
    #[error("Content-Length stands beside Transfer-Encoding")]
    TwoFramings,
    /// `Transfer-Encoding` in a message of HTTP/1.0.
    #[error("Transfer-Encoding stands in HTTP/1.0")]
    CodingInOldVersion,
    /// A coding other than `chunked` is applied before it.
    #[error("the transfer coding is unknown")]
    UnknownCoding,
    /// The last coding is not `chunked`.
    #[error("chunked is not the last transfer coding")]
    ChunkedNotLast,
    /// `chunked` twice, or `Transfer-Encoding` on several lines.
    #[error("Transfer-Encoding stands there more than once")]
    RepeatedCoding,
    /// A chunk's size is no hexadecimal number, or none that can be counted to.
    #[error("the size of a chunk is invalid")]
    ChunkSize,
    /// A chunk's data goes on where its end was announced.
    #[error("a chunk is longer than announced")]
    ChunkEnd,
    /// The chunk extensions of a message are longer than anybody needs.
    #[error("the chunk extensions are too long")]
    ExtensionsTooLong,
    /// The trailers are longer than anybody needs.
    #[error("the trailers are too long")]
    TrailersTooLong,
    /// A trailer line without a colon.
    #[error("a trailer is no field")]
    TrailerLine,
    /// A control character, such as NUL, in a chunk line or in trailers; in heads hyper refuses
    /// them.
    #[error("there is a control character")]
    ControlCharacter,
    /// Bytes of an answer where no request is outstanding.
    #[error("something came unasked")]
    Unasked,
}

/// What a client is told of a violation.
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

impl Violation {
    /// What it means for a request.
    ///
    /// # Source
    /// RFC 9112 sections 3 (414), 6.1 (501) and 6.3 (400 where `chunked` is not last); RFC 9110
    /// section 15.6.6 (505); RFC 6585 section 5 (431).
    pub fn meaning(self) -> Meaning {
        match self {
            Self::RequestLineTooLong => Meaning::TargetTooLong,
            Self::HeadTooLong | Self::TooManyFields => Meaning::HeadTooLarge,
            Self::UnknownCoding => Meaning::NotImplemented,
            Self::Version => Meaning::VersionNotSupported,
            Self::BareLineFeed
            | Self::BareCarriageReturn
            | Self::EmptyLines
            | Self::RequestLine
            | Self::NoVersion
            | Self::Fragment
            | Self::StatusLine
            | Self::SwitchingProtocols
            | Self::LeadingWhitespace
            | Self::Folded
            | Self::EmptyName
            | Self::SpaceBeforeColon
            | Self::ContentLength
            | Self::ContentLengthConflict
            | Self::TwoFramings
            | Self::CodingInOldVersion
            | Self::ChunkedNotLast
            | Self::RepeatedCoding
            | Self::ChunkSize
            | Self::ChunkEnd
            | Self::ExtensionsTooLong
            | Self::TrailersTooLong
            | Self::TrailerLine
            | Self::ControlCharacter
            | Self::Unasked => Meaning::Malformed,
        }
    }
}
