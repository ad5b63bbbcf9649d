import io.trino.Session;
import io.trino.metadata.SessionPropertyManager;
import io.trino.spi.QueryId;
import io.trino.spi.security.Identity;
import io.trino.spi.type.TimeZoneKey;
import io.trino.testing.LocalQueryRunner;
import io.trino.testing.MaterializedRow;
import java.nio.file.Files;
import java.nio.file.Path;

/** Runs each file of SQL in one embedded Trino, by UTC; prints a line a row, its fields apart by tabs, then "--". */
public class Trino {
    public static void main(String[] files) throws Exception {
        Identity user = Identity.ofUser("tests");
        Session session = Session.builder(new SessionPropertyManager()).setQueryId(new QueryId("tests"))
                .setIdentity(user).setOriginalIdentity(user).setTimeZoneKey(TimeZoneKey.UTC_KEY).build();
        try (LocalQueryRunner trino = LocalQueryRunner.create(session)) {
            for (String file : files) {
                for (MaterializedRow row : trino.execute(Files.readString(Path.of(file))).getMaterializedRows()) {
                    System.out.println(String.join("\t", row.getFields().stream().map(String::valueOf).toList()));
                }
                System.out.println("--");
            }
        }
        System.exit(0);  // its threads would stay
    }
}
