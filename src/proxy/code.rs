//! The codes of the gateway's own errors: one list for replies, log lines and metrics.

/// Makes [`Code`] and the list of all from one table.
macro_rules! codes {
    ($($code:ident => $text:literal,)*) => {
        /// The stable name of an error, as `code` of a problem document; README.md says what each
        /// means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $($code,)*
        }

        impl Code {
            /// All codes; each stands at [`Code::position`].
            pub(super) const ALL: &[Self] = &[$(Self::$code,)*];

            /// The text that clients see.
            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                }
            }
        }
    };
}

codes! {
    RequestMalformed => "request-malformed",
    PathAmbiguous => "path-ambiguous",
    EnvironmentMismatch => "environment-mismatch",
    RouteNotFound => "route-not-found",
    NotImplemented => "not-implemented",
    MethodNotAllowed => "method-not-allowed",
    RequestTimeout => "request-timeout",
    LengthRequired => "length-required",
    BodyTooLarge => "body-too-large",
    UriTooLong => "uri-too-long",
    HeaderTooLarge => "header-too-large",
    VersionNotSupported => "version-not-supported",
    ExpectationFailed => "expectation-failed",
    LimitExceeded => "limit-exceeded",
    Paused => "paused",
    Draining => "draining",
    Overloaded => "overloaded",
    CredentialUnavailable => "credential-unavailable",
    UpstreamUnavailable => "upstream-unavailable",
    UpstreamUnreachable => "upstream-unreachable",
    UpstreamTimeout => "upstream-timeout",
    UpstreamReset => "upstream-reset",
    UpstreamInvalid => "upstream-invalid",
    CredentialRejected => "credential-rejected",
    LoopDetected => "loop-detected",
    Internal => "internal",
}

impl Code {
    /// Where it stands in [`Code::ALL`].
    pub(super) const fn position(self) -> usize {
        self as usize
    }
}
