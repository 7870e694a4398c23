//! Reading from a running viewer over HTTP.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::span::{Spans, Summary};

/// A session's spans may be many: this much of an answer is read.
const MAX_ANSWER: u64 = 1 << 30;

/// A viewer by its address.
pub(crate) struct Viewer {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

impl Viewer {
    pub(crate) fn new(url: &str, token: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            // The viewer is here, not behind the proxy that the environment may name.
            .proxy(None)
            .max_redirects(0)
            .build();
        Self { agent: config.into(), url: url.trim_end_matches('/').to_owned(), token }
    }

    /// The session whose span came last.
    pub(crate) fn newest(&self) -> Result<Option<String>, String> {
        #[derive(serde::Deserialize)]
        struct Answer {
            sessions: Vec<Summary>,
        }
        let answer: Option<Answer> = self.get("/api/sessions?limit=1")?;
        Ok(answer.and_then(|answer| answer.sessions.into_iter().next()).map(|summary| summary.session_id))
    }

    pub(crate) fn session(&self, session: &str) -> Result<Option<Spans>, String> {
        self.get(&format!("/api/sessions/{}", encode(session)))
    }

    pub(crate) fn trace(&self, trace: &str) -> Result<Option<Spans>, String> {
        self.get(&format!("/api/traces/{}", encode(trace)))
    }

    /// None for 404.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, String> {
        let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", self.url);
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request
            .call()
            .map_err(|error| format!("no viewer answers at {}: {error} (start one: tracebaton view)", self.url))?;
        let body =
            response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(|error| describe(&error))?;
        match response.status().as_u16() {
            200 => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| describe(&"the answer is not that of a tracebaton viewer of this version")),
            404 => Ok(None),
            status => {
                let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                Err(describe(&format!("status {status}: {}", text.trim())))
            }
        }
    }
}

/// Percent-encodes everything but unreserved characters: an id may hold any.
fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String does not fail
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn ids_of_any_text_are_one_path_segment() {
        assert_eq!(encode("trace:0af7-_.~"), "trace%3A0af7-_.~");
        assert_eq!(encode("a/b?c#d é%"), "a%2Fb%3Fc%23d%20%C3%A9%25");
    }
}
