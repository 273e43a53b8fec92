//! One user with many processes takes what a user may have, and the others have the rest.

use crate::access::{OTHER, opened, other_can_run, runs, shell_of_other};
use crate::bystander::{Bystander, Figures};

/// Each of its processes is within its own bounds, and together they are stopped at theirs, with a code and a key. The
/// broker's own user goes on, and everything comes back.
///
/// design §8 *quotas*
#[test]
fn a_user_with_many_processes_is_stopped_at_its_own_bounds() {
    let home = opened(
        "[limits]\nuser_connections = 4\nuser_members = 3\nuser_objects = 20\nuser_registrations = 2\n",
    );
    if !other_can_run(&home) {
        return;
    }
    home.profile("default", &format!("[access]\nsession = [\"{OTHER}\"]\n"));
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut others: Vec<_> = (0..4).map(|_| shell_of_other(&home)).collect();
    for other in &mut others[..3] {
        other.ok("logon");
    }
    let says = |error: &serde_json::Value, key: &str| {
        assert!(error["message"].as_str().is_some_and(|m| m.contains(key)), "{error}");
    };
    says(&others[3].fails("logon", "MAPI_E_SESSION_LIMIT"), "(user_members)");
    let open = "open session=1 what=inbox";
    let beyond = (0..).find_map(|n| {
        let reply = others[n % 3].ask(open);
        (reply["ok"] == false).then_some(reply)
    });
    let error = beyond.expect("it ends")["error"].clone();
    assert_eq!(error["code"], "MAPI_E_NOT_ENOUGH_RESOURCES", "{error}");
    says(&error, "(user_objects)");
    others[0].ok("advise session=1");
    others[1].ok("advise session=1");
    says(
        &others[2].fails("advise session=1", "MAPI_E_NOT_ENOUGH_RESOURCES"),
        "(user_registrations)",
    );
    let status = runs(&home, &["status", "--json"]);
    assert_eq!(status.exits(1).json()["error"]["code"], "MAPI_E_NOT_ENOUGH_RESOURCES");
    let limits = home.status()["limits"].clone();
    // What cannot be opened as a whole is not kept by halves.
    assert!((18..=20).contains(&limits["user_objects"]["used"].as_u64().unwrap_or(0)), "{limits}");
    for (key, used) in [("user_connections", 4), ("user_members", 3)] {
        assert_eq!(limits[key]["used"], used, "{key}: {limits}");
    }
    bystander.works(&home, &broker);
    // At its bounds it can leave, either way.
    others[0].ok("query-fast-shutdown");
    others[0].ok("do-fast-shutdown");
    others[1].ok("logoff session=1");
    others[3].ok("logon");
    for mut other in others {
        assert!(other.end().success());
    }
    before.come_back(&home, &broker);
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}
