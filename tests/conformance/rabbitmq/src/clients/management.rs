//! The management API of a RabbitMQ, for what AMQP cannot ask for: users and what they may do.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::play::Policy;

/// How far its port is above that of AMQP, as `.ci/rabbitmq` starts it.
const PORTS_ABOVE: u16 = 3000;

/// That of users that scenarios make.
const PASSWORD: &str = "s3cret";

/// `guest:guest`, as HTTP has it.
const CREDENTIALS: &str = "Z3Vlc3Q6Z3Vlc3Q=";

/// Where it is.
pub(super) struct Management {
    host: String,
    port: u16,
}

impl Management {
    /// That of the RabbitMQ at `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub(super) fn of(url: &str) -> Self {
        let authority = url.split('@').nth(1).and_then(|rest| rest.split('/').next());
        let (host, port) =
            authority.and_then(|authority| authority.split_once(':')).expect("a URL with a port");
        Self { host: host.to_owned(), port: port.parse().expect("a port is a number") }
    }

    /// Where a user that a scenario made connects to.
    pub(super) fn url_as(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@{}:{}/%2f", self.host, self.port)
    }

    pub(super) async fn put_user(&self, user: &str) -> Result<(), String> {
        self.ask("PUT", &format!("users/{user}"), json!({ "password": PASSWORD, "tags": "" })).await
    }

    pub(super) async fn delete_user(&self, user: &str) -> Result<(), String> {
        self.ask("DELETE", &format!("users/{user}"), Value::Null).await
    }

    pub(super) async fn allow(
        &self,
        user: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> Result<(), String> {
        let patterns = json!({ "configure": configure, "write": write, "read": read });
        self.ask("PUT", &format!("permissions/%2F/{user}"), patterns).await
    }

    pub(super) async fn allow_topic(
        &self,
        user: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> Result<(), String> {
        let patterns = json!({ "exchange": exchange, "write": write, "read": read });
        self.ask("PUT", &format!("topic-permissions/%2F/{user}"), patterns).await
    }

    pub(super) async fn limit_user(&self, user: &str, limit: &str, to: u32) -> Result<(), String> {
        self.ask("PUT", &format!("user-limits/{user}/{limit}"), json!({ "value": to })).await
    }

    pub(super) async fn limit_vhost(&self, limit: &str, to: u32) -> Result<(), String> {
        self.ask("PUT", &format!("vhost-limits/%2F/{limit}"), json!({ "value": to })).await
    }

    pub(super) async fn unlimit_vhost(&self, limit: &str) -> Result<(), String> {
        self.ask("DELETE", &format!("vhost-limits/%2F/{limit}"), Value::Null).await
    }

    pub(super) async fn put_policy(&self, policy: &Policy) -> Result<(), String> {
        let definition: Value =
            serde_json::to_value(&policy.definition).map_err(|error| error.to_string())?;
        let body = json!({
            "pattern": policy.pattern,
            "definition": definition,
            "priority": policy.priority,
            "apply-to": policy.apply_to,
        });
        self.ask("PUT", &policy_path(&policy.name, policy.operator), body).await
    }

    pub(super) async fn delete_policy(&self, name: &str, operator: bool) -> Result<(), String> {
        self.ask("DELETE", &policy_path(name, operator), Value::Null).await
    }

    /// One request over a connection of its own; anything but success is an error.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<(), String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /api/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {CREDENTIALS}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.host,
            body.len()
        );
        let asked = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port + PORTS_ABOVE)).await?;
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = asked.await.map_err(|error| format!("{method} {path}: {error}"))?;
        let line = answer.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            _ => Err(format!("{method} {path}: {answer}")),
        }
    }
}

fn policy_path(name: &str, operator: bool) -> String {
    let kind = if operator { "operator-policies" } else { "policies" };
    format!("{kind}/%2F/{name}")
}
