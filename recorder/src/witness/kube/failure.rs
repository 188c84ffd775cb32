//! What an API server, or its absence, says: one sentence for people, and what a watch does about it.
//! In: errors of the client. Out: a reason that names no payload: answers hold the environment of pods.

use kube::core::Status;
use kube::error::Error;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub why: String,
    pub kind: Kind,
    /// Since when changes may have been missed, where that is earlier than the last word of the server.
    pub after_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The position is too old for the server (410): only a new list tells what is there.
    Expired,
    /// This version of the resource is not served (404).
    Unknown,
    /// Who we are is not accepted (401): the configuration is read again.
    Unauthorized,
    /// Anything else: asked again later, from the same position.
    Other,
}

/// The longest reason that is kept of what a server says.
const MOST_CHARACTERS: usize = 300;

impl Failure {
    pub fn new(why: impl Into<String>) -> Failure {
        Failure { why: why.into(), kind: Kind::Other, after_ns: None }
    }

    pub fn of_status(status: &Status) -> Failure {
        let (kind, what) = match status.code {
            410 => (Kind::Expired, "expired: the API server has forgotten the changes since"),
            404 => (Kind::Unknown, "not served by this API server"),
            401 => (Kind::Unauthorized, "refused: the credentials are not accepted"),
            403 => (Kind::Other, "refused"),
            429 => (Kind::Other, "too many requests"),
            _ => (Kind::Other, "the API server failed"),
        };
        let said: String = status.message.chars().take(MOST_CHARACTERS).collect();
        let why = format!("{what} ({}): {}", status.code, said.replace('\n', " "));
        Failure { kind, ..Failure::new(why) }
    }

    pub fn of(error: &Error, server: &str) -> Failure {
        match error {
            Error::Api(status) => Failure::of_status(status),
            // Only where, not what: the text may be of a pod.
            Error::SerdeError(error) => Failure::new(format!(
                "{server} answered what is no object of Kubernetes (line {}, column {})",
                error.line(),
                error.column()
            )),
            Error::Service(cause) => no_connection(server, cause.as_ref()),
            Error::HyperError(cause) => no_connection(server, cause),
            Error::ReadEvents(cause) => no_connection(server, cause),
            Error::Auth(cause) => {
                Failure { kind: Kind::Unauthorized, ..Failure::new(format!("credentials: {cause}")) }
            }
            other => Failure::new(format!("{server}: {other}")),
        }
    }
}

fn no_connection(server: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure::new(format!("no connection to {server}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_by_its_code() {
        let status = |code| Status { code, message: "pods is forbidden".into(), ..Default::default() };
        assert_eq!(Failure::of_status(&status(410)).kind, Kind::Expired);
        let refused = Failure::of_status(&status(403));
        assert_eq!(refused, Failure::new("refused (403): pods is forbidden"));
    }

    #[test]
    fn no_byte_of_an_answer_is_told() {
        let error = serde_json::from_str::<u8>(r#""PASSWORD=hunter2""#).unwrap_err();
        let why = Failure::of(&Error::SerdeError(error), "https://api").why;
        assert_eq!(why, "https://api answered what is no object of Kubernetes (line 1, column 18)");
    }
}
