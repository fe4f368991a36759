// Makes the replica set of one member where there is none yet; healthy is a primary of it.
const admin = db.getSiblingDB("admin");
admin.auth(process.env.MONGO_INITDB_ROOT_USERNAME, process.env.MONGO_INITDB_ROOT_PASSWORD);
try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] });
}
const hello = db.hello();
// Without a set's name it is the server that the image starts for a moment to make the users.
quit(hello.setName === "rs0" && hello.isWritablePrimary ? 0 : 1);
