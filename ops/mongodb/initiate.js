// Run by mongosh on mongo1's loopback, at every `make local-start`: initiates the replica set and
// creates its root user, each if nobody has, and ends with 0 when there are a primary and a majority.
// Each step begins from what it finds: whatever was interrupted, the next run goes on from there.
// Reads ROOT_USERNAME and ROOT_PASSWORD.
const { ROOT_USERNAME: user, ROOT_PASSWORD: pwd } = process.env;
const options = "directConnection=true&serverSelectionTimeoutMS=2000";
const loopback = "127.0.0.1:30001/admin";
const asRoot = `mongodb://${[user, pwd].map(encodeURIComponent).join(":")}@${loopback}?authSource=admin&${options}`;
const asNobody = `mongodb://${loopback}?${options}`;
// mongo1 is preferred as the primary: a client outside of the compose network talks to it alone.
const config = {
  _id: "twin",
  members: [
    { _id: 0, host: "mongo1:30001", priority: 2 },
    { _id: 1, host: "mongo2:30002", priority: 1 },
    { _id: 2, host: "mongo3:30003", priority: 1 },
  ],
};
const UNAUTHORIZED = 13, AUTHENTICATION_FAILED = 18, NOT_YET_INITIALIZED = 94;

// Returns the members; none if the set had to be initiated first.
function members(admin) {
  try {
    return admin.adminCommand({ replSetGetStatus: 1 }).members;
  } catch (error) {
    if (error.code !== NOT_YET_INITIALIZED) throw error;
    admin.adminCommand({ replSetInitiate: config });
    return [];
  }
}

// mongod lets a client on its loopback do this, and little else, as long as there is no user.
function createRoot() {
  const admin = connect(asNobody);
  members(admin);
  // Fails until mongo1 is the primary.
  admin.adminCommand({ createUser: user, pwd, roles: ["root"], writeConcern: { w: "majority" } });
}

// Returns whether the set serves; else it was brought one step nearer to that.
function advance() {
  let root;
  try {
    root = connect(asRoot);
  } catch (error) {
    if (error.code !== AUTHENTICATION_FAILED) throw error;
    createRoot();
    return false;
  }
  const found = members(root);
  last = found.map((member) => `${member.name} ${member.stateStr}`).join(", ");
  const up = found.filter((member) => member.state === 1 || member.state === 2);
  return up.some((member) => member.state === 1) && up.length * 2 > found.length;
}

const deadline = Date.now() + 120000;
let last = "no answer";
while (Date.now() < deadline) {
  try {
    if (advance()) {
      print(`replica set twin: ${last}`);
      quit(0);
    }
  } catch (error) {
    if (error.code === UNAUTHORIZED) {
      print(
        "MongoDB refuses STACK_MONGO_USERNAME and STACK_MONGO_PASSWORD of .env: its volume was made " +
          "with others. Set those, or delete the data with `docker compose down --volumes`."
      );
      quit(1);
    }
    last = error.message; // mongo1 may not be up yet, or not be the primary
  }
  sleep(1000);
}
print(`replica set twin has no primary after two minutes: ${last}`);
quit(1);
