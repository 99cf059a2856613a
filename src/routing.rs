//! Which route a request takes.
//!
//! For: the table of `[[routes]]`, built at load, and the look-up that every request makes. Never
//! does: rewrite a path, or read anything of a request but its method and canonical path (no
//! `X-Original-URL`, no `X-HTTP-Method-Override`). Called by: `proxy`. Start reading at
//! [`Routes::find`].

use std::sync::Arc;

use http::{HeaderValue, Method};

use crate::config::{RouteConfig, RoutePath};
use crate::domain::{CanonicalPath, PathCharacters, RouteName};

#[cfg(test)]
mod tests;

/// The route table of one configuration generation.
#[derive(Debug)]
pub struct Routes {
    /// In the operator's order. A table of a handful is fastest read from the top.
    routes: Vec<Arc<Route>>,
    /// What the paths of any route may hold.
    characters: PathCharacters,
    /// The methods of every route, as `Allow` lists them.
    methods: HeaderValue,
}

/// One way through the gateway.
#[derive(Debug)]
pub struct Route {
    /// Its place in the table, from 0.
    pub index: u16,
    /// The operator's name for it.
    pub name: RouteName,
    path: RoutePath,
    methods: Vec<Method>,
    /// What this route's own paths may hold.
    characters: PathCharacters,
    /// The methods of every route that matches wherever this one does, as `Allow` lists them.
    allow: HeaderValue,
}

impl Route {
    /// The methods of every route that matches wherever this one does, ready for `Allow`.
    pub fn allow(&self) -> &HeaderValue {
        &self.allow
    }
}

/// Why a request takes no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError<'r> {
    /// No route is for this path: 404 `route-not-found`.
    #[error("no route is for this path")]
    NotFound,
    /// Routes are for this path, none for this method: 405 `method-not-allowed`.
    #[error("no route for this path allows the method")]
    MethodNotAllowed {
        /// The methods of all routes for this path, ready for `Allow`.
        allow: &'r HeaderValue,
    },
    /// The path is another spelling of a route's path: 400 `path-ambiguous`.
    #[error("the path is another spelling of a route's path")]
    Ambiguous,
}

impl Routes {
    /// Builds the table. It cannot fail: what makes no sense matches nothing.
    ///
    /// `TRACE` and `CONNECT` are dropped from every route: the one would show a client the
    /// injected secret, the other is a tunnel.
    ///
    /// # Source
    /// RFC 9110, 9.3.6 and 9.3.8.
    pub fn build(configs: &[RouteConfig]) -> Self {
        let routes = configs
            .iter()
            .zip(0..)
            .map(|(config, index)| {
                Arc::new(Route {
                    index,
                    name: RouteName::new(&config.name),
                    path: config.path.clone(),
                    methods: forwarded_methods(config).cloned().collect(),
                    characters: PathCharacters::unreserved().with_extra(&config.path_extra),
                    allow: allow_of_all_that_cover(&config.path, configs),
                })
            })
            .collect();
        let characters = configs
            .iter()
            .fold(PathCharacters::unreserved(), |characters, config| {
                characters.with_extra(&config.path_extra)
            });
        let methods = allow(configs.iter());
        Self {
            routes,
            characters,
            methods,
        }
    }

    /// The characters that a path of any route may hold: what the resolver lets through.
    pub fn allowed_characters(&self) -> &PathCharacters {
        &self.characters
    }

    /// The methods of all routes, ready for `Allow`, for a request whose target is no path.
    pub fn all_methods(&self) -> &HeaderValue {
        &self.methods
    }

    /// Whether the method means something here: the standards define it for everybody, or a route
    /// names it.
    ///
    /// # Source
    /// RFC 9110, 9.1 and 9.3; RFC 5789 (PATCH).
    pub fn know(&self, method: &Method) -> bool {
        matches!(
            *method,
            Method::POST
                | Method::GET
                | Method::HEAD
                | Method::PUT
                | Method::DELETE
                | Method::PATCH
                | Method::OPTIONS
                | Method::TRACE
                | Method::CONNECT
        ) || self
            .routes
            .iter()
            .any(|route| route.methods.contains(method))
    }

    /// Finds the first route that is for this path and this method.
    ///
    /// A path that differs from a route's path in letter case only is refused, whatever else would
    /// match: no spelling of a guarded path may miss its route, and an upstream may not care
    /// for case. Reads the whole table for that; allocates nothing.
    ///
    /// # Errors
    /// [`RouteError`]; the request is not forwarded.
    pub fn find(
        &self,
        method: &Method,
        path: &CanonicalPath<'_>,
    ) -> Result<&Arc<Route>, RouteError<'_>> {
        let path = path.as_str();
        let mut found = None;
        for route in &self.routes {
            match fit(&route.path, path) {
                Fit::OtherCase => return Err(RouteError::Ambiguous),
                Fit::Same if found.is_none() && route.methods.contains(method) => {
                    found = Some(route);
                }
                Fit::Same | Fit::Other => {}
            }
        }
        match found {
            Some(route) if route.characters.spell(path) => Ok(route),
            Some(_) => Err(RouteError::Ambiguous),
            None => Err(self.refusal(path)),
        }
    }

    /// Says why no route was found.
    ///
    /// The paths of the routes that match one path lie within each other, so the narrowest of
    /// them knows the methods of all, and its `Allow` is the longest.
    fn refusal(&self, path: &str) -> RouteError<'_> {
        self.routes
            .iter()
            .filter(|route| fit(&route.path, path) == Fit::Same)
            .map(|route| &route.allow)
            .max_by_key(|allow| allow.len())
            .map_or(RouteError::NotFound, |allow| RouteError::MethodNotAllowed {
                allow,
            })
    }
}

/// How a path compares with a route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The route is for this path.
    Same,
    /// It would be, were it not for letter case.
    OtherCase,
    /// The route is for other paths.
    Other,
}

fn fit(route: &RoutePath, path: &str) -> Fit {
    let (text, compared) = match route {
        RoutePath::Literal(text) => (text, Some(path)),
        RoutePath::Prefix(text) => (text, path.get(..text.len())),
    };
    match compared {
        Some(compared) if compared == text => Fit::Same,
        Some(compared) if compared.eq_ignore_ascii_case(text) => Fit::OtherCase,
        _ => Fit::Other,
    }
}

/// The value of `Allow` for paths of which this is the narrowest route.
fn allow_of_all_that_cover(path: &RoutePath, configs: &[RouteConfig]) -> HeaderValue {
    allow(configs.iter().filter(|config| covers(&config.path, path)))
}

/// The methods of these routes, in the form of `Allow` (RFC 9110, 10.2.1).
fn allow<'c>(configs: impl Iterator<Item = &'c RouteConfig>) -> HeaderValue {
    let mut names: Vec<_> = configs
        .flat_map(forwarded_methods)
        .map(Method::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    HeaderValue::try_from(names.join(", ")).expect("names of methods are tokens")
}

/// Whether every path of the inner route is one of the outer's, too.
fn covers(outer: &RoutePath, inner: &RoutePath) -> bool {
    match (outer, inner) {
        (RoutePath::Literal(outer), RoutePath::Literal(inner)) => outer == inner,
        (RoutePath::Literal(_), RoutePath::Prefix(_)) => false,
        (RoutePath::Prefix(outer), RoutePath::Literal(inner) | RoutePath::Prefix(inner)) => {
            inner.starts_with(outer)
        }
    }
}

fn forwarded_methods(config: &RouteConfig) -> impl Iterator<Item = &Method> {
    config
        .methods
        .iter()
        .filter(|method| !matches!(**method, Method::TRACE | Method::CONNECT))
}
