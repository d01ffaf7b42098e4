//! One thread that owns the model. Questions wait in a short queue; when it is full the answer is "busy".

use crate::inside::{Answer, Fault, HeadAt, Inside, Pattern, Prompt, Reason};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use tokio::sync::oneshot;

/// Questions that may wait: a browser sends six at a time.
pub(crate) const QUEUE: usize = 16;
/// Bytes of patterns that are kept for the tiles to come.
const KEPT: usize = 256 << 20;

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// A way to the thread.
#[derive(Clone)]
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
}

/// What the thread has before it.
pub(crate) struct Desk {
    pub(crate) inside: Box<dyn Inside>,
    kept: Vec<(Prompt, HeadAt, Arc<Pattern>)>,
}

impl Worker {
    /// Starts the thread; it ends when nobody can ask any more.
    pub(crate) fn start(inside: Box<dyn Inside>, queue: usize) -> std::io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(queue);
        thread::Builder::new().name("model".into()).spawn(move || {
            let mut desk = Desk { inside, kept: vec![] };
            while let Ok(job) = todo.recv() {
                job(&mut desk);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            // Whoever asked may have gone: a tile that was scrolled away.
            if reply.is_closed() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(|| question(desk)));
            let _ = reply.send(done.unwrap_or_else(|_| {
                desk.forget();
                Err(Fault::new(Reason::Broken, "the model failed on this question (a bug)"))
            }));
        });
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => {
                Fault::new(Reason::Busy, "the model is busy with earlier questions: ask again")
            }
            TrySendError::Disconnected(_) => Fault::new(Reason::Broken, "the model is gone"),
        })?;
        answer.await.unwrap_or_else(|_| Err(Fault::new(Reason::Broken, "the model is gone")))
    }
}

impl Desk {
    /// A head's pattern, from what is kept if it was asked before.
    pub(crate) fn pattern(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Arc<Pattern>> {
        if let Some(i) = self.kept.iter().position(|k| k.0 == *prompt && k.1 == *at) {
            let found = self.kept.remove(i);
            let pattern = found.2.clone();
            self.kept.push(found);
            return Ok(pattern);
        }
        let pattern = Arc::new(self.fresh(prompt, at)?);
        self.kept.push((prompt.clone(), at.clone(), pattern.clone()));
        let bytes = |k: &(Prompt, HeadAt, Arc<Pattern>)| 4 * k.2.weights.len();
        while self.kept.len() > 1 && self.kept.iter().map(bytes).sum::<usize>() > KEPT {
            self.kept.remove(0);
        }
        Ok(pattern)
    }

    /// A head's pattern, whose size is as it says.
    pub(crate) fn fresh(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern> {
        let pattern = self.inside.pattern(prompt, at)?;
        let (t, s, n) = (pattern.queries, pattern.keys, pattern.weights.len());
        if t == 0 || s == 0 || n != t * s {
            let message = format!("a pattern of {t} × {s} came with {n} weights");
            return Err(Fault::new(Reason::Broken, message));
        }
        Ok(pattern)
    }

    /// After another checkpoint was opened.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }
}
