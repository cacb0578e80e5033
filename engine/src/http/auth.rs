//! Who calls, for which tenant, and by which name.

use super::problem::Problem;
use crate::config::{ANONYMOUS, Config, Role, Token, is_tenant};
use crate::hash::sha256_hex;
use axum::http::{HeaderMap, Method, StatusCode, header};
use std::net::IpAddr;
use std::sync::Arc;

/// The tenant of a request, checked against the token.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: Arc<str>,
    /// The tenants that the token speaks for; empty: all.
    pub(crate) tenants: Vec<String>,
}

impl Caller {
    /// Whether what belongs to a tenant may be shown.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|t| t == tenant)
    }
}

/// The rules of who may call.
#[derive(Debug)]
pub(crate) struct Gate {
    tokens: Vec<Token>,
    hosts: Vec<String>,
}

impl Gate {
    pub(crate) fn new(config: &Config) -> Self {
        let mut tokens = config.tokens.clone();
        for t in &mut tokens {
            t.sha256.make_ascii_lowercase();
        }
        Self { tokens, hosts: config.hosts.clone() }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// 401 without a known token, 403 for a token that does not allow it, 400 for a tenant that is none, 403 when a
    /// request that changes something comes under a foreign host name.
    pub(crate) fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes {
            self.check_host(headers)?;
        }
        let tenant = match headers.get("x-scope-orgid") {
            None => ANONYMOUS,
            Some(v) => v.to_str().ok().filter(|t| is_tenant(t)).ok_or_else(|| {
                Problem::bad("invalid_tenant", "expected 1 to 64 letters, digits, _, - or .").at("X-Scope-OrgID")
            })?,
        };
        let mut tenants = Vec::new();
        if !self.tokens.is_empty() {
            let token = self.token(headers)?;
            let forbid = |code, detail: String| Err(Problem::new(StatusCode::FORBIDDEN, code, detail));
            if !token.tenants.is_empty() && !token.tenants.iter().any(|t| t == tenant) {
                return forbid("tenant_forbidden", format!("this token does not speak for tenant {tenant}"));
            }
            if changes && token.role == Role::Read {
                return forbid("read_only", "this token may only read".to_owned());
            }
            tenants.clone_from(&token.tenants);
        }
        Ok(Caller { tenant: tenant.into(), tenants })
    }

    fn token(&self, headers: &HeaderMap) -> Result<&Token, Problem> {
        let refuse = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")))
            .map(|(_, token)| token)
            .ok_or_else(|| refuse("a token is needed: send Authorization: Bearer TOKEN"))?;
        // Digests are compared, so that the time it takes says nothing about a token.
        let digest = sha256_hex(&[given.trim().as_bytes()]);
        self.tokens.iter().find(|t| t.sha256 == digest).ok_or_else(|| refuse("the token is not known"))
    }

    /// A page on another site can make a browser call this server under its own name (DNS rebinding); it cannot make it
    /// call under an address or under a name of ours.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(""),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let known = name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name));
        if known {
            return Ok(());
        }
        let detail = format!("the server does not answer to {host:?}: add it to hosts in the configuration");
        Err(Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail).at("Host"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert("host", "127.0.0.1:8780".parse().unwrap());
        for (n, v) in pairs {
            h.insert(*n, v.parse().unwrap());
        }
        h
    }

    #[test]
    fn tokens_and_tenants() {
        let sha256 = sha256_hex(&[b"secret"]).to_uppercase();
        let token = Token { sha256, tenants: vec!["a".into()], role: Role::Read };
        let gate = Gate::new(&Config { tokens: vec![token], ..Config::default() });
        let code = |m: Method, h: &[(&'static str, &str)]| gate.admit(&m, &headers(h)).map_err(|p| p.code());
        assert_eq!(code(Method::GET, &[]).unwrap_err(), "unauthorized");
        assert_eq!(code(Method::GET, &[("authorization", "Bearer other")]).unwrap_err(), "unauthorized");
        let auth = ("authorization", "Bearer secret");
        assert_eq!(code(Method::GET, &[auth]).unwrap_err(), "tenant_forbidden");
        assert_eq!(&*code(Method::GET, &[auth, ("x-scope-orgid", "a")]).unwrap().tenant, "a");
        assert_eq!(code(Method::POST, &[auth, ("x-scope-orgid", "a")]).unwrap_err(), "read_only");
        assert_eq!(code(Method::GET, &[auth, ("x-scope-orgid", "a/b")]).unwrap_err(), "invalid_tenant");
    }

    #[test]
    fn hosts() {
        let gate = Gate::new(&Config { hosts: vec!["foreglow.example".into()], ..Config::default() });
        let post = |host: &str| gate.admit(&Method::POST, &headers(&[("host", host)])).is_ok();
        assert!(post("localhost:8780") && post("[::1]:8780") && post("10.1.2.3") && post("foreglow.example:80"));
        assert!(!post("evil.example:8780") && !post(""));
        assert!(gate.admit(&Method::GET, &headers(&[("host", "evil.example")])).is_ok(), "reading changes nothing");
    }
}
