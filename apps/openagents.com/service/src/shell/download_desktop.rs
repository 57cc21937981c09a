//! Decides where the desktop application is: where the operator says, or nowhere.

use oa_contract::{Answer, Ask, Handle, Refusal, Stop, Streamed, matrix::DownloadDesktop, wire::shell::Html};

use crate::Control;

impl Handle<DownloadDesktop> for Control {
    async fn handle(&self, _: Ask<DownloadDesktop>) -> Result<Answer<Streamed<Html>>, Stop> {
        let Some(url) = &self.config.shell.desktop_download_url else {
            return Err(Refusal::not_found("no desktop application is offered here").into());
        };
        Ok(Answer::new(Streamed::whole("")).with_header("location", url.clone()))
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Nothing, Service};

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn the_download_is_where_the_operator_says_or_nowhere() {
        let nowhere = World::new().await.ask::<DownloadDesktop>(Nothing {}).await;
        assert_eq!(nowhere.err().map(|refused| refused.status(Service::Control)), Some(404));
        let world = World::with_runtime(&[("OA_DESKTOP_DOWNLOAD_URL", "https://example.test/app")]).await;
        let answer = world.ask::<DownloadDesktop>(Nothing {}).await.expect("a redirect");
        assert_eq!(answer.headers, [("location", "https://example.test/app".to_owned())]);
    }
}
