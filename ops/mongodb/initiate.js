// Run by mongosh, once at every `make local-start`: initiates the replica set if nobody has, and ends
// with 0 when it has a primary and a majority. Reads ROOT_USERNAME and ROOT_PASSWORD.
const credentials = [process.env.ROOT_USERNAME, process.env.ROOT_PASSWORD]
  .map(encodeURIComponent).join(":");
const uri = `mongodb://${credentials}@mongo1:30001/admin`
  + "?authSource=admin&directConnection=true&serverSelectionTimeoutMS=2000";
// mongo1 is preferred as the primary: a client outside of the compose network talks to it alone.
const config = {
  _id: "twin",
  members: [
    { _id: 0, host: "mongo1:30001", priority: 2 },
    { _id: 1, host: "mongo2:30002", priority: 1 },
    { _id: 2, host: "mongo3:30003", priority: 1 },
  ],
};
const NOT_YET_INITIALIZED = 94;
const deadline = Date.now() + 120000;
let last = "no answer";

while (Date.now() < deadline) {
  try {
    const admin = connect(uri);
    try {
      const members = admin.adminCommand({ replSetGetStatus: 1 }).members;
      const up = members.filter((member) => member.state === 1 || member.state === 2);
      if (up.some((member) => member.state === 1) && up.length * 2 > members.length) {
        print(`replica set twin: ${members.map((m) => `${m.name} ${m.stateStr}`).join(", ")}`);
        quit(0);
      }
      last = members.map((m) => `${m.name} ${m.stateStr}`).join(", ");
    } catch (error) {
      if (error.code !== NOT_YET_INITIALIZED) throw error;
      admin.adminCommand({ replSetInitiate: config });
    }
  } catch (error) {
    last = error.message; // mongo1 may still be creating its root user, or electing
  }
  sleep(1000);
}
print(`replica set twin has no primary after two minutes: ${last}`);
quit(1);
