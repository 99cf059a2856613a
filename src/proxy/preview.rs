//! What would become of a request, judged by its head and sent nowhere.
//!
//! It takes the steps of `admit` that need nothing but a head, by the same functions and in the
//! same order, so that what it tells cannot differ from what is done.

use http::request;
use http::uri::PathAndQuery;

use super::error::ProxyError;
use super::{asks_for_everything, check_head, path, path_and_query, reply};
use crate::config::Config;
use crate::domain::RouteName;
use crate::routing::Routes;
use crate::server::Malformed;

/// The way that an admitted request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The canonical path, as routes and limits see it.
    pub path: String,
    /// The route that it takes.
    pub route: RouteName,
    /// The target that is sent to MODEN, byte for byte.
    pub target: PathAndQuery,
}

/// How a request that is not sent on is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The stable code of the problem document; none where the reply is no error.
    pub code: Option<&'static str>,
    /// The problem document's sentence about it, or what stands for it.
    pub detail: &'static str,
    /// The value of `Allow`, with 405 and with the answer to `OPTIONS *`.
    pub allow: Option<String>,
}

/// Judges a request by its method, target and fields; looks at no body and no credential.
///
/// # Errors
/// The [`Refusal`] that its client would get.
pub fn preview(config: &Config, head: &request::Parts) -> Result<Way, Refusal> {
    let routes = Routes::build(&config.routes);
    check_head(head, &routes).map_err(|error| reply::foretell(&error))?;
    if asks_for_everything(head) {
        return Err(reply::foretell_list(routes.all_methods()));
    }
    find_way(config, head, &routes).map_err(|error| reply::foretell(&error))
}

/// What a client gets whose bytes are no request.
pub fn foretell(why: Malformed) -> Refusal {
    reply::foretell(&ProxyError::Malformed(why))
}

fn find_way(config: &Config, head: &request::Parts, routes: &Routes) -> Result<Way, ProxyError> {
    let path = path::resolve(
        path_and_query(&head.uri),
        config.environment,
        routes.allowed_characters(),
    )?;
    let route = routes.find(&head.method, &path)?;
    let target = path::upstream_target(config.selected().base_url.path(), &path)?;
    Ok(Way {
        path: path.as_str().to_owned(),
        route: route.name.clone(),
        target,
    })
}
