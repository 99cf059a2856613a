//! How many files may be open, and for what: clients must not take the last of them from the probes
//! and from the way to MODEN.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::core_count;
use crate::admin;
use crate::config::Config;

/// A pooled connection is looked at through a second handle.
const FILES_OF_A_CONNECTION: usize = 2;

/// Files beside connections: logs, listeners, name servers, the runtimes' own.
const OTHER_FILES: usize = 64;

/// What a configuration may have open at once, and how much of that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    /// The limit; `None` if there is none.
    pub allowed: Option<usize>,
    /// `max_connections` of all listeners.
    clients: usize,
    /// For all that is no client: connections to MODEN, admin connections, logs.
    reserve: usize,
}

impl OpenFiles {
    /// What a start by this configuration will find: it raises the soft limit to the hard one.
    pub fn foresee(config: &Config) -> Self {
        Self::of(config, getrlimit(Resource::Nofile).maximum)
    }

    /// Raises the soft limit to the hard one, for the process and for commands that it starts.
    ///
    /// The soft one is often 1024 for the sake of `select`, which nothing here uses.
    pub(super) fn raise(config: &Config) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current == maximum {
            return Self::of(config, current);
        }
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                tracing::info!(
                    from = current,
                    to = maximum,
                    "raised the limit of open files"
                );
                Self::of(config, maximum)
            }
            Err(error) => {
                tracing::warn!(%error, "the limit of open files could not be raised");
                Self::of(config, current)
            }
        }
    }

    fn of(config: &Config, allowed: Option<u64>) -> Self {
        let listeners = config.listeners.iter();
        // Every core has one connection at least.
        let cores = core_count(config.server.threads);
        let upstream = config.upstream.max_connections.max(cores);
        Self {
            allowed: allowed.map(|files| usize::try_from(files).unwrap_or(usize::MAX)),
            clients: listeners.map(|listener| listener.max_connections).sum(),
            reserve: upstream * FILES_OF_A_CONNECTION + admin::MAX_CONNECTIONS + OTHER_FILES,
        }
    }

    /// Files that may be open when every connection is there.
    pub fn needed(&self) -> usize {
        self.clients.saturating_add(self.reserve)
    }

    /// Client connections that are accepted at once by all listeners together.
    ///
    /// What is left by the reserve, but a quarter of what is allowed: few clients open few
    /// connections to MODEN, one each at a time, so the reserve is not needed in full either.
    pub fn client_room(&self) -> usize {
        match self.allowed {
            None => self.clients,
            Some(allowed) => allowed
                .saturating_sub(self.reserve)
                .max(allowed / 4)
                .min(self.clients),
        }
    }

    /// What an operator should know, if not every client can have a connection.
    pub fn warning(&self) -> Option<String> {
        let allowed = self.allowed?;
        (self.client_room() < self.clients).then(|| {
            format!(
                "listeners: max_connections come to {} and the rest may need {} open files, but \
                 the hard limit allows {allowed}: no more than {} clients are served at once",
                self.clients,
                self.reserve,
                self.client_room()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(allowed: Option<usize>) -> usize {
        let files = OpenFiles {
            allowed,
            clients: 10_000,
            reserve: 704,
        };
        assert_eq!(files.needed(), 10_704);
        assert_eq!(files.warning().is_none(), files.client_room() == 10_000);
        files.client_room()
    }

    #[test]
    fn clients_get_what_the_rest_does_not_need() {
        assert_eq!(room(None), 10_000);
        assert_eq!(room(Some(usize::MAX)), 10_000);
        assert_eq!(room(Some(10_704)), 10_000);
        assert_eq!(room(Some(10_703)), 9_999);
        assert_eq!(room(Some(1024)), 320);
        assert_eq!(room(Some(256)), 64);
    }
}
