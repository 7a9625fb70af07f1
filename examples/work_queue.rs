//! A work queue: tasks go to whichever worker is free, and the task of a worker that dies goes to another one.
//!
//! Start a broker with `leveret serve`, then run `cargo run --example work_queue`.

use std::error::Error;
use std::time::Duration;

use leveret::client::{Connection, Queue};
use tokio::task::JoinSet;

const TASKS: usize = 12;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
    let connection = Connection::open(&url).await?;
    let channel = connection.channel().await?;
    channel.declare_queue(Queue::new("example.tasks")).await?;

    let publisher = channel.publisher("", "example.tasks").open().await?;
    for task in 1..=TASKS {
        publisher.send(format!("task {task}")).await?;
    }
    publisher.wait_for_all().await?;

    // This worker takes a task and falls over it. Its connection ends with it, so that its task goes to another one.
    let unlucky = Connection::open(&url).await?;
    let mut tasks = unlucky.channel().await?.consume("example.tasks").prefetch(1).start().await?;
    if let Some(task) = tasks.next().await {
        println!("unlucky: took '{}' and died", String::from_utf8_lossy(task?.body()));
    }
    drop((tasks, unlucky));

    // Each worker would usually be a program of its own.
    let (done, mut finished) = tokio::sync::mpsc::channel(TASKS);
    let mut workers = JoinSet::new();
    for worker in ["fast", "slow"] {
        workers.spawn(work(connection.clone(), worker, done.clone()));
    }
    for _ in 0..TASKS {
        let Some(report) = finished.recv().await else { break };
        println!("{report}");
    }
    println!("all tasks are done");
    workers.shutdown().await;
    channel.delete_queue("example.tasks", Default::default()).await?;
    connection.close().await?;
    Ok(())
}

/// With a prefetch of 1 a worker gets its next task when it has accepted the last one: work goes to those who are free.
async fn work(
    connection: Connection,
    worker: &'static str,
    done: tokio::sync::mpsc::Sender<String>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let channel = connection.channel().await?;
    let mut tasks = channel.consume("example.tasks").prefetch(1).tag(worker).start().await?;
    while let Some(task) = tasks.next().await {
        let task = task?;
        tokio::time::sleep(Duration::from_millis(if worker == "fast" { 5 } else { 50 })).await;
        let again = if task.redelivered() { " (somebody had it before)" } else { "" };
        let report = format!("{worker}: {}{again}", String::from_utf8_lossy(task.body()));
        // Only now: should this worker die before, somebody else does the task.
        task.accept_stored().await?;
        done.send(report).await?;
    }
    Ok(())
}
