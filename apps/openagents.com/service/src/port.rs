//! Decides who may call a row of control: anyone, or whoever carries a session or a personal token whose
//! abilities reach that far.

use std::net::IpAddr;

use oa_contract::{Arriving, Barred, Caller, Class, Port, Presented, Refusal, Service, Stop};

use crate::{Control, forwarded, headers, identity::authenticate::unauthenticated};

impl Port for Control {
    const SERVICE: Service = Service::Control;

    async fn authenticate(&self, class: Class, presented: Presented<'_>) -> Result<Caller, Stop> {
        let ability = match class {
            Class::Anyone => return Ok(Caller::Anyone),
            // No row of control is for services.
            Class::Service | Class::Operator => return Err(unauthenticated().into()),
            Class::User(ability) => ability,
        };
        let user = self.identify(presented).await?;
        match user.may(ability) {
            true => Ok(Caller::User(user)),
            false => {
                Err(Refusal::forbidden(format!("this token does not carry the ability `{ability}`")).into())
            }
        }
    }

    fn admits_writes(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn request_id(&self) -> String {
        let id = self.ids.uuid32();
        match uuid::Uuid::parse_str(&id) {
            Ok(id) => id.to_string(),
            Err(_) => id,
        }
    }

    fn bars(&self, arriving: &Arriving<'_>) -> Option<Barred> {
        self.gates(arriving)
    }

    fn answers_preflight(&self, path: &str) -> bool {
        headers::is_api(path)
    }

    fn dress(&self, path: &str, origin: Option<&str>, preflight: bool) -> Vec<(&'static str, String)> {
        headers::dress(path, origin, preflight, self.config.accounts.cors_allowed_origins.as_deref())
    }

    fn client(&self, peer: IpAddr, forwarded_for: &str, real_ip: &str) -> IpAddr {
        forwarded::client(&self.config.accounts.trusted_proxies, peer, forwarded_for, real_ip)
    }
}
