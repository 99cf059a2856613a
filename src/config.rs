//! The working form of what the operator wrote, as far as routing needs it.

use http::Method;

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutePath {
    /// Exactly this canonical path, such as `/pay/gateway`.
    Literal(String),
    /// Every canonical path that begins with this text, such as `/pay/` (written `/pay/*`).
    Prefix(String),
}

/// One `[[routes]]` table.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The route's name in logs, metrics and entitlements.
    pub name: String,
    /// The paths it is for.
    pub path: RoutePath,
    /// The methods it lets through.
    pub methods: Vec<Method>,
    /// Characters that its paths may hold beyond the unreserved ones; empty by default.
    pub path_extra: String,
}
