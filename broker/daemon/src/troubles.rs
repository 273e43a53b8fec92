//! Lines of the log about providers and profiles that do not work: a WARN when a trouble begins, an INFO when it is over.

use sundown_core::provider::ProviderType;
use sundown_core::{ProviderNews, Trouble};

/// Logs what is new of a provider.
pub(crate) fn of_provider(
    profile: &str,
    (provider, provider_type): (&str, ProviderType),
    news: &ProviderNews,
) {
    let kind = provider_type.name();
    match news {
        ProviderNews::Fails { trouble: Trouble::Unreachable, why }
            if provider_type == ProviderType::Mailbox =>
        {
            tracing::warn!(
                event = "mailbox-failing",
                profile,
                provider,
                kind,
                why,
                "a mailbox does not work; new mail in it is not seen, and changes of its messages wait"
            );
        }
        ProviderNews::Fails { trouble: Trouble::Unreachable, why } => tracing::warn!(
            event = "transport-unreachable",
            profile,
            provider,
            kind,
            why,
            "a transport cannot reach its server, or the server refuses to talk; its mail waits"
        ),
        ProviderNews::Fails { trouble: Trouble::LogonRefused, why } => tracing::warn!(
            event = "logon-refused",
            profile,
            provider,
            kind,
            why,
            "a logon was refused; a provider whose logon is refused twice is disabled, and its mail waits"
        ),
        ProviderNews::Fails { trouble: Trouble::Disabled, why } => tracing::warn!(
            event = "provider-failed",
            profile,
            provider,
            kind,
            why,
            "a provider does not work and is disabled"
        ),
        ProviderNews::Reached => tracing::info!(
            event = "transport-reached",
            profile,
            provider,
            kind,
            "a transport's server answers again"
        ),
        ProviderNews::Works => {
            tracing::info!(
                event = "provider-works",
                profile,
                provider,
                kind,
                "a provider works again"
            );
        }
    }
}

/// Logs why no session of a profile can start, or that one has started again.
pub(crate) fn of_profile(profile: &str, why: Option<&str>) {
    if let Some(why) = why {
        tracing::warn!(event = "session-failed", profile, why, "a session cannot start");
    } else {
        tracing::info!(
            event = "session-started",
            profile,
            "a session started, after one that could not"
        );
    }
}
