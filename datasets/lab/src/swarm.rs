use crate::dispatch::dispatch;
use crate::fault::{Event, Fault};
use crate::queue::lock;
use crate::shared::{Board, Clock, Edges, Retries, Shared, Topology};
use crate::supervisor::{Command, Member, Supervisor};
use crate::tick::Tick;
use crate::work::Workbench;
use crate::{LabConfig, LabError, Parameters};
use foreglow_core::Timestamp;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as AsyncMutex, broadcast, watch};

/// CPU time of one task's work on this machine.
const TASK_CPU: Duration = Duration::from_micros(300);
/// Ticks that a slow listener may fall behind before it loses the oldest.
const TICKS_KEPT: usize = 4096;

/// A running swarm. Dropping it stops it.
pub struct Swarm {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    ticks: Option<broadcast::Receiver<Arc<Tick>>>,
    events: Arc<Mutex<Vec<Event>>>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Swarm {
    /// Sizes the work to this machine (some tens of milliseconds), starts the agents and lets tasks arrive.
    ///
    /// Threads: one an agent, one dispatcher, one supervisor. Sockets: loopback only, ports of the system's choice.
    ///
    /// # Errors
    /// A configuration out of range, or a thread, runtime or socket that the system refuses.
    pub fn start(config: LabConfig) -> Result<Self, LabError> {
        config.check()?;
        let bench = Workbench::calibrate(TASK_CPU);
        let epoch = config.start.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(since.as_millis() as i64)
        });
        let shared = Arc::new(Shared {
            bench,
            clock: Clock { origin: Instant::now(), epoch },
            boards: (0..config.agents).map(|_| Board::new()).collect(),
            parameters: watch::Sender::new(Arc::new(config.parameters.clone())),
            ledger: AsyncMutex::new([0; 32]),
            edges: Edges::new(config.agents),
            retries: Retries::default(),
            surge: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            config,
        });
        let (commands, inbox) = mpsc::channel();
        let (sender, ticks) = broadcast::channel(TICKS_KEPT);
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut swarm =
            Self { shared: shared.clone(), commands, ticks: Some(ticks), events: events.clone(), threads: Vec::new() };
        let mut members = Vec::with_capacity(shared.boards.len());
        for index in 0..shared.boards.len() {
            match Member::start(&shared, index) {
                Ok(member) => members.push(member),
                Err(e) => {
                    // Those that run must not outlive the failure.
                    shared.boards.iter().for_each(|b| b.kill.notify_one());
                    return Err(e);
                }
            }
        }
        let supervisor = Supervisor { shared: shared.clone(), commands: inbox, ticks: sender, events, members };
        swarm.thread("lab-supervisor", move || supervisor.run())?;
        swarm.thread("lab-dispatcher", move || dispatch(&shared))?;
        Ok(swarm)
    }

    fn thread(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), LabError> {
        let thread = Builder::new().name(name.to_owned()).spawn(body).map_err(|e| LabError::start(name, e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// The ticks from now on. Any number of listeners; each has its own.
    pub fn ticks(&self) -> Ticks {
        // Always there before `halt`, which takes `self` with it.
        Ticks(self.ticks.as_ref().map(broadcast::Receiver::resubscribe))
    }

    /// Changes the parameters of the running swarm; work in hand ends under the old ones.
    pub fn configure(&self, parameters: Parameters) -> Result<(), LabError> {
        parameters.check(self.shared.config.agents)?;
        self.shared.parameters.send_replace(Arc::new(parameters));
        Ok(())
    }

    /// The parameters it runs with.
    pub fn parameters(&self) -> Parameters {
        (**self.shared.parameters.borrow()).clone()
    }

    /// What it was started with.
    pub fn config(&self) -> &LabConfig {
        &self.shared.config
    }

    /// Starts a fault, which ends by itself, and returns its label.
    ///
    /// # Errors
    /// A fault that does not fit, that is already active there, or whose agent is down; or the swarm has stopped.
    pub fn inject(&self, fault: Fault) -> Result<Event, LabError> {
        fault.check(self.shared.config.agents)?;
        let (reply, answer) = mpsc::channel();
        self.commands.send(Command::Inject(fault, reply)).map_err(|_| LabError::Stopped)?;
        answer.recv().map_err(|_| LabError::Stopped)?
    }

    /// The faults injected so far, in order.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// The time now, on the swarm's own clock (the wall clock, or counted from [`LabConfig::start`]).
    pub fn now(&self) -> Timestamp {
        self.shared.clock.timestamp(self.shared.clock.now())
    }

    /// Who has talked to whom since the start.
    pub fn topology(&self) -> Topology {
        self.shared.edges.report()
    }

    /// Stops and joins every thread; takes milliseconds. Listeners get the ticks that were sent, then the end.
    pub fn stop(mut self) -> Vec<Event> {
        self.halt();
        self.events()
    }

    fn halt(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.retries.wake();
        // The supervisor may have ended already.
        let _ = self.commands.send(Command::Stop);
        self.ticks = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A listener to the ticks of a swarm.
#[derive(Debug)]
pub struct Ticks(Option<broadcast::Receiver<Arc<Tick>>>);

impl Ticks {
    /// The next tick, or `None` when the swarm has stopped. A listener that is thousands of ticks late loses the oldest.
    pub async fn next(&mut self) -> Option<Arc<Tick>> {
        loop {
            match self.0.as_mut()?.recv().await {
                Ok(tick) => return Some(tick),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The same for threads without a runtime.
    ///
    /// # Panics
    /// When called on a thread that drives a tokio runtime: use [`Ticks::next`] there.
    pub fn next_blocking(&mut self) -> Option<Arc<Tick>> {
        loop {
            match self.0.as_mut()?.blocking_recv() {
                Ok(tick) => return Some(tick),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
