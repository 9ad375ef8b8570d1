//! Does openraft's own suite for runtimes accept ours on glommio?
#![forbid(unsafe_code)]

use glommio::{LocalExecutorBuilder, Placement};
use openraft::testing::runtime::Suite;
use walengine_replication::runtime::{LocalRuntime, drive_by, enter};
use walengine_replication::runtime_glommio::GlommioRuntime;

#[test]
fn openraft_accepts_the_runtime_on_glommio() {
    let _driven = drive_by(|root| {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
        executor.run(async {
            let _entered = enter(GlommioRuntime::new());
            root.await;
        });
    });
    Suite::<LocalRuntime>::test_all();
}
