//! The simulator of MODEN on a runtime of its own.

use std::ops::Deref;

use moden_gateway::simulator::{Control, Simulator, SimulatorOptions};
use tokio::runtime::Runtime;

use super::{APP_ID, SECRET};

/// A simulator that accepts the credential of the test gateways.
#[derive(Debug)]
pub(crate) struct TestSimulator {
    simulator: Simulator,
    /// Runs the simulator; ends it when dropped.
    _runtime: Runtime,
}

impl TestSimulator {
    /// Starts one that speaks plain HTTP.
    pub(crate) fn start() -> Self {
        Self::start_with(SimulatorOptions::default())
    }

    /// Starts one with these options, except for the credential.
    pub(crate) fn start_with(options: SimulatorOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let options = SimulatorOptions {
            app_id: APP_ID.to_owned(),
            secret: SECRET.into(),
            ..options
        };
        let simulator = runtime
            .block_on(Simulator::start(options))
            .expect("the simulator starts");
        Self {
            simulator,
            _runtime: runtime,
        }
    }

    /// The handle that sets faults and looks at what arrived.
    pub(crate) fn control(&self) -> Control {
        self.simulator.control()
    }
}

impl Deref for TestSimulator {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}
