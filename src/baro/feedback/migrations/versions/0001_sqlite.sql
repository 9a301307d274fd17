CREATE TABLE event (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    details JSON NOT NULL
)

CREATE TABLE meta (
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_meta PRIMARY KEY ("key")
)

CREATE TABLE project (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    settings JSON NOT NULL,
    state TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_project PRIMARY KEY (id),
    CONSTRAINT ck_project_state CHECK (state IN ('open', 'paused', 'ended')),
    CONSTRAINT uq_project_name UNIQUE (name)
)

CREATE TABLE rater (
    id TEXT NOT NULL,
    pseudonym TEXT NOT NULL,
    lang TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    manages_all BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_rater PRIMARY KEY (id),
    CONSTRAINT uq_rater_pseudonym UNIQUE (pseudonym)
)

CREATE TABLE criterion (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    "key" TEXT NOT NULL,
    labels JSON NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    weight FLOAT NOT NULL,
    position INTEGER NOT NULL,
    CONSTRAINT pk_criterion PRIMARY KEY (id),
    CONSTRAINT uq_criterion_project_id_key UNIQUE (project_id, "key"),
    CONSTRAINT ck_criterion_scale CHECK (low < high),
    CONSTRAINT fk_criterion_project_id FOREIGN KEY(project_id) REFERENCES project (id)
)

CREATE TABLE export (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    layout TEXT NOT NULL,
    settings JSON NOT NULL,
    watermark INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    dropped JSON NOT NULL,
    sha256 TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    CONSTRAINT pk_export PRIMARY KEY (id),
    CONSTRAINT fk_export_project_id FOREIGN KEY(project_id) REFERENCES project (id)
)

CREATE TABLE generation (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    model TEXT NOT NULL,
    settings JSON NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_generation PRIMARY KEY (id),
    CONSTRAINT fk_generation_project_id FOREIGN KEY(project_id) REFERENCES project (id)
)

CREATE TABLE guideline (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    lang TEXT NOT NULL,
    body TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    event_id INTEGER NOT NULL,
    CONSTRAINT pk_guideline PRIMARY KEY (id),
    CONSTRAINT uq_guideline_project_id_version_lang UNIQUE (project_id, version, lang),
    CONSTRAINT fk_guideline_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT uq_guideline_event_id UNIQUE (event_id),
    CONSTRAINT fk_guideline_event_id FOREIGN KEY(event_id) REFERENCES event (id)
)

CREATE TABLE invite (
    token_sha256 TEXT NOT NULL,
    rater_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT,
    CONSTRAINT pk_invite PRIMARY KEY (token_sha256),
    CONSTRAINT fk_invite_rater_id FOREIGN KEY(rater_id) REFERENCES rater (id)
)

CREATE TABLE member (
    project_id TEXT NOT NULL,
    rater_id TEXT NOT NULL,
    role TEXT NOT NULL,
    CONSTRAINT pk_member PRIMARY KEY (project_id, rater_id),
    CONSTRAINT ck_member_role CHECK (role IN ('rater', 'adjudicator', 'manager')),
    CONSTRAINT fk_member_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_member_rater_id FOREIGN KEY(rater_id) REFERENCES rater (id)
)

CREATE TABLE prompt (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    messages JSON NOT NULL,
    sha256 TEXT NOT NULL,
    source TEXT NOT NULL,
    extra JSON NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_prompt PRIMARY KEY (id),
    CONSTRAINT uq_prompt_project_id_sha256 UNIQUE (project_id, sha256),
    CONSTRAINT fk_prompt_project_id FOREIGN KEY(project_id) REFERENCES project (id)
)

CREATE TABLE session (
    token_sha256 TEXT NOT NULL,
    rater_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    CONSTRAINT pk_session PRIMARY KEY (token_sha256),
    CONSTRAINT ck_session_kind CHECK (kind IN ('browser', 'api')),
    CONSTRAINT fk_session_rater_id FOREIGN KEY(rater_id) REFERENCES rater (id)
)

CREATE INDEX ix_session_rater_id ON session (rater_id)

CREATE TABLE response (
    id TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    generation_id TEXT,
    author TEXT NOT NULL,
    rater_id TEXT,
    parent_id TEXT,
    sample_index INTEGER,
    text TEXT NOT NULL,
    finished BOOLEAN NOT NULL,
    sha256 TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_response PRIMARY KEY (id),
    CONSTRAINT uq_response_prompt_id_generation_id_sample_index UNIQUE (prompt_id, generation_id, sample_index),
    CONSTRAINT ck_response_author CHECK (author IN ('model', 'human')),
    CONSTRAINT fk_response_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id),
    CONSTRAINT fk_response_generation_id FOREIGN KEY(generation_id) REFERENCES generation (id),
    CONSTRAINT fk_response_rater_id FOREIGN KEY(rater_id) REFERENCES rater (id),
    CONSTRAINT fk_response_parent_id FOREIGN KEY(parent_id) REFERENCES response (id)
)

CREATE INDEX ix_response_prompt_id ON response (prompt_id)

CREATE INDEX ix_response_rater_id ON response (rater_id) WHERE rater_id IS NOT NULL

CREATE TABLE task (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    overlap INTEGER NOT NULL,
    first_overlap INTEGER NOT NULL,
    places INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    order_key TEXT NOT NULL,
    open BOOLEAN NOT NULL,
    withdrawn BOOLEAN NOT NULL,
    is_gold BOOLEAN NOT NULL,
    gold_answer JSON,
    repeat_of TEXT,
    reserved_for TEXT,
    again_of TEXT,
    policy TEXT NOT NULL,
    score FLOAT,
    propensity FLOAT NOT NULL,
    created_ms BIGINT NOT NULL,
    CONSTRAINT pk_task PRIMARY KEY (id),
    CONSTRAINT ck_task_kind CHECK (kind IN ('pair', 'rank', 'thumb', 'safety', 'criteria', 'edit')),
    CONSTRAINT ck_task_overlap CHECK (overlap >= 1),
    CONSTRAINT ck_task_first_overlap CHECK (first_overlap BETWEEN 1 AND overlap),
    CONSTRAINT ck_task_places CHECK (places BETWEEN 0 AND overlap),
    CONSTRAINT ck_task_gold CHECK (is_gold = (gold_answer IS NOT NULL)),
    CONSTRAINT fk_task_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_task_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id),
    CONSTRAINT fk_task_repeat_of FOREIGN KEY(repeat_of) REFERENCES task (id),
    CONSTRAINT fk_task_reserved_for FOREIGN KEY(reserved_for) REFERENCES rater (id),
    CONSTRAINT fk_task_again_of FOREIGN KEY(again_of) REFERENCES task (id)
)

CREATE INDEX ix_task_again_of ON task (again_of) WHERE again_of IS NOT NULL

CREATE INDEX ix_task_prompt_id ON task (prompt_id)

CREATE INDEX ix_task_queue ON task (project_id, priority DESC, order_key) WHERE open AND NOT withdrawn AND places > 0

CREATE INDEX ix_task_reserved_for ON task (reserved_for)

CREATE TABLE redaction (
    event_id INTEGER NOT NULL,
    project_id TEXT NOT NULL,
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    why TEXT NOT NULL,
    CONSTRAINT pk_redaction PRIMARY KEY (event_id),
    CONSTRAINT ck_redaction_entity CHECK (entity IN ('prompt', 'response', 'judgment', 'skip')),
    CONSTRAINT fk_redaction_event_id FOREIGN KEY(event_id) REFERENCES event (id),
    CONSTRAINT fk_redaction_project_id FOREIGN KEY(project_id) REFERENCES project (id)
)

CREATE INDEX ix_redaction_project_id ON redaction (project_id)

CREATE TABLE withdrawal (
    id TEXT NOT NULL,
    event_id INTEGER NOT NULL,
    project_id TEXT NOT NULL,
    task_id TEXT,
    prompt_id TEXT,
    withdrawn BOOLEAN NOT NULL,
    CONSTRAINT pk_withdrawal PRIMARY KEY (id),
    CONSTRAINT ck_withdrawal_of CHECK ((task_id IS NULL) <> (prompt_id IS NULL)),
    CONSTRAINT fk_withdrawal_event_id FOREIGN KEY(event_id) REFERENCES event (id),
    CONSTRAINT fk_withdrawal_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_withdrawal_task_id FOREIGN KEY(task_id) REFERENCES task (id),
    CONSTRAINT fk_withdrawal_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id)
)

CREATE INDEX ix_withdrawal_project_id_event_id ON withdrawal (project_id, event_id)

CREATE TABLE assignment (
    id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    rater_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,
    display_order JSON NOT NULL,
    lease_sha256 TEXT NOT NULL,
    guideline_id TEXT,
    leased_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    skip_reason TEXT,
    CONSTRAINT pk_assignment PRIMARY KEY (id),
    CONSTRAINT ck_assignment_purpose CHECK (purpose IN ('judge', 'adjudicate')),
    CONSTRAINT ck_assignment_state CHECK (state IN ('leased', 'submitted', 'extra', 'skipped', 'expired', 'released')),
    CONSTRAINT uq_assignment_id_task_id_rater_id UNIQUE (id, task_id, rater_id),
    CONSTRAINT fk_assignment_task_id FOREIGN KEY(task_id) REFERENCES task (id),
    CONSTRAINT fk_assignment_rater_id FOREIGN KEY(rater_id) REFERENCES rater (id),
    CONSTRAINT fk_assignment_guideline_id FOREIGN KEY(guideline_id) REFERENCES guideline (id)
)

CREATE INDEX ix_assignment_leased ON assignment (expires_ms) WHERE state = 'leased'

CREATE INDEX ix_assignment_rater_id_state ON assignment (rater_id, state)

CREATE INDEX ix_assignment_task_id ON assignment (task_id)

CREATE UNIQUE INDEX uq_assignment_one_each ON assignment (task_id, rater_id) WHERE state NOT IN ('expired', 'released')

CREATE TABLE draw (
    event_id INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    score FLOAT,
    propensity FLOAT NOT NULL,
    CONSTRAINT pk_draw PRIMARY KEY (event_id, task_id),
    CONSTRAINT ck_draw_policy CHECK (policy IN ('random', 'margin', 'disagreement')),
    CONSTRAINT ck_draw_propensity CHECK (propensity > 0 AND propensity <= 1),
    CONSTRAINT fk_draw_event_id FOREIGN KEY(event_id) REFERENCES event (id),
    CONSTRAINT fk_draw_task_id FOREIGN KEY(task_id) REFERENCES task (id)
)

CREATE INDEX ix_draw_task_id ON draw (task_id)

CREATE TABLE task_item (
    task_id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    response_id TEXT NOT NULL,
    CONSTRAINT pk_task_item PRIMARY KEY (task_id, slot),
    CONSTRAINT uq_task_item_task_id_response_id UNIQUE (task_id, response_id),
    CONSTRAINT ck_task_item_slot CHECK (slot BETWEEN 0 AND 8),
    CONSTRAINT fk_task_item_task_id FOREIGN KEY(task_id) REFERENCES task (id),
    CONSTRAINT fk_task_item_response_id FOREIGN KEY(response_id) REFERENCES response (id)
)

CREATE INDEX ix_task_item_response_id ON task_item (response_id)

CREATE TABLE draft (
    assignment_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    answer JSON NOT NULL,
    updated_ms BIGINT NOT NULL,
    CONSTRAINT pk_draft PRIMARY KEY (assignment_id),
    CONSTRAINT fk_draft_assignment_id FOREIGN KEY(assignment_id) REFERENCES assignment (id)
)

CREATE TABLE judgment (
    id TEXT NOT NULL,
    assignment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    rater_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    action TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    guideline_id TEXT,
    ui_version TEXT NOT NULL,
    opened_ms BIGINT NOT NULL,
    submitted_ms BIGINT NOT NULL,
    active_ms INTEGER,
    visible_ms INTEGER,
    changes INTEGER NOT NULL,
    confidence INTEGER,
    comment TEXT NOT NULL,
    flags JSON NOT NULL,
    event_id INTEGER NOT NULL,
    CONSTRAINT pk_judgment PRIMARY KEY (id),
    CONSTRAINT fk_judgment_assignment_id_task_id_rater_id FOREIGN KEY(assignment_id, task_id, rater_id) REFERENCES assignment (id, task_id, rater_id),
    CONSTRAINT uq_judgment_assignment_id_revision UNIQUE (assignment_id, revision),
    CONSTRAINT uq_judgment_id_task_id UNIQUE (id, task_id),
    CONSTRAINT ck_judgment_action CHECK (action IN ('submit', 'revise', 'retract')),
    CONSTRAINT ck_judgment_kind CHECK (kind IN ('pair', 'rank', 'thumb', 'safety', 'criteria', 'edit')),
    CONSTRAINT ck_judgment_revision CHECK (revision >= 1 AND (action = 'submit') = (revision = 1)),
    CONSTRAINT ck_judgment_confidence CHECK (confidence BETWEEN 1 AND 5),
    CONSTRAINT uq_judgment_idempotency_key UNIQUE (idempotency_key),
    CONSTRAINT fk_judgment_guideline_id FOREIGN KEY(guideline_id) REFERENCES guideline (id),
    CONSTRAINT uq_judgment_event_id UNIQUE (event_id),
    CONSTRAINT fk_judgment_event_id FOREIGN KEY(event_id) REFERENCES event (id)
)

CREATE INDEX ix_judgment_rater_id ON judgment (rater_id)

CREATE INDEX ix_judgment_task_id ON judgment (task_id)

CREATE TABLE adjudication (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    CONSTRAINT pk_adjudication PRIMARY KEY (judgment_id),
    CONSTRAINT ck_adjudication_reason CHECK (reason IN ('ambiguous', 'guideline_gap', 'rater_error', 'subjective')),
    CONSTRAINT fk_adjudication_judgment_id FOREIGN KEY(judgment_id) REFERENCES judgment (id),
    CONSTRAINT fk_adjudication_task_id FOREIGN KEY(task_id) REFERENCES task (id)
)

CREATE INDEX ix_adjudication_task_id ON adjudication (task_id)

CREATE TABLE judged_edit (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    response_id TEXT NOT NULL,
    edited_id TEXT,
    critique TEXT NOT NULL,
    spans JSON NOT NULL,
    CONSTRAINT pk_judged_edit PRIMARY KEY (judgment_id, response_id),
    CONSTRAINT fk_judged_edit_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_edit_task_id_response_id FOREIGN KEY(task_id, response_id) REFERENCES task_item (task_id, response_id),
    CONSTRAINT fk_judged_edit_edited_id FOREIGN KEY(edited_id) REFERENCES response (id)
)

CREATE TABLE judged_pair (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    winner_id TEXT,
    dimension TEXT NOT NULL,
    outcome TEXT NOT NULL,
    strength INTEGER NOT NULL,
    position INTEGER,
    CONSTRAINT pk_judged_pair PRIMARY KEY (judgment_id, dimension),
    CONSTRAINT ck_judged_pair_dimension CHECK (dimension IN ('overall', 'helpful', 'safer')),
    CONSTRAINT ck_judged_pair_outcome CHECK (outcome IN ('win', 'tie', 'both_bad', 'unsure')),
    CONSTRAINT ck_judged_pair_winner CHECK ((outcome = 'win') = (winner_id IS NOT NULL)),
    CONSTRAINT ck_judged_pair_position CHECK ((outcome = 'win') = (position IS NOT NULL)),
    CONSTRAINT ck_judged_pair_strength CHECK (strength BETWEEN 0 AND 3 AND (strength = 0 OR outcome = 'win')),
    CONSTRAINT fk_judged_pair_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_pair_task_id_winner_id FOREIGN KEY(task_id, winner_id) REFERENCES task_item (task_id, response_id)
)

CREATE TABLE judged_rank (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    response_id TEXT NOT NULL,
    rank INTEGER,
    CONSTRAINT pk_judged_rank PRIMARY KEY (judgment_id, response_id),
    CONSTRAINT ck_judged_rank_rank CHECK (rank >= 1),
    CONSTRAINT fk_judged_rank_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_rank_task_id_response_id FOREIGN KEY(task_id, response_id) REFERENCES task_item (task_id, response_id)
)

CREATE TABLE judged_safety (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    response_id TEXT NOT NULL,
    safe BOOLEAN NOT NULL,
    severity INTEGER NOT NULL,
    categories JSON NOT NULL,
    CONSTRAINT pk_judged_safety PRIMARY KEY (judgment_id, response_id),
    CONSTRAINT ck_judged_safety_severity CHECK (severity BETWEEN 0 AND 3 AND safe = (severity = 0)),
    CONSTRAINT fk_judged_safety_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_safety_task_id_response_id FOREIGN KEY(task_id, response_id) REFERENCES task_item (task_id, response_id)
)

CREATE TABLE judged_score (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    response_id TEXT NOT NULL,
    criterion_id TEXT NOT NULL,
    score INTEGER,
    CONSTRAINT pk_judged_score PRIMARY KEY (judgment_id, response_id, criterion_id),
    CONSTRAINT fk_judged_score_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_score_task_id_response_id FOREIGN KEY(task_id, response_id) REFERENCES task_item (task_id, response_id),
    CONSTRAINT fk_judged_score_criterion_id FOREIGN KEY(criterion_id) REFERENCES criterion (id)
)

CREATE TABLE judged_thumb (
    judgment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    response_id TEXT NOT NULL,
    good BOOLEAN NOT NULL,
    reasons JSON NOT NULL,
    CONSTRAINT pk_judged_thumb PRIMARY KEY (judgment_id, response_id),
    CONSTRAINT fk_judged_thumb_judgment_id_task_id FOREIGN KEY(judgment_id, task_id) REFERENCES judgment (id, task_id),
    CONSTRAINT fk_judged_thumb_task_id_response_id FOREIGN KEY(task_id, response_id) REFERENCES task_item (task_id, response_id)
)

CREATE TRIGGER prompt_no_update BEFORE UPDATE OF id, project_id, sha256, source, created_ms ON prompt BEGIN SELECT RAISE(ABORT, 'prompt is append-only'); END

CREATE TRIGGER prompt_texts BEFORE UPDATE OF messages, extra ON prompt WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'prompt is append-only'); END

CREATE TRIGGER prompt_no_delete BEFORE DELETE ON prompt BEGIN SELECT RAISE(ABORT, 'prompt is append-only'); END

CREATE TRIGGER response_no_update BEFORE UPDATE OF id, prompt_id, generation_id, author, rater_id, parent_id, sample_index, finished, sha256, created_ms ON response BEGIN SELECT RAISE(ABORT, 'response is append-only'); END

CREATE TRIGGER response_texts BEFORE UPDATE OF text ON response WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'response is append-only'); END

CREATE TRIGGER response_no_delete BEFORE DELETE ON response BEGIN SELECT RAISE(ABORT, 'response is append-only'); END

CREATE TRIGGER guideline_no_update BEFORE UPDATE ON guideline BEGIN SELECT RAISE(ABORT, 'guideline is append-only'); END

CREATE TRIGGER guideline_no_delete BEFORE DELETE ON guideline BEGIN SELECT RAISE(ABORT, 'guideline is append-only'); END

CREATE TRIGGER judgment_no_update BEFORE UPDATE OF id, assignment_id, task_id, rater_id, revision, action, idempotency_key, kind, guideline_id, ui_version, opened_ms, submitted_ms, active_ms, visible_ms, changes, confidence, flags, event_id ON judgment BEGIN SELECT RAISE(ABORT, 'judgment is append-only'); END

CREATE TRIGGER judgment_texts BEFORE UPDATE OF comment ON judgment WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'judgment is append-only'); END

CREATE TRIGGER judgment_no_delete BEFORE DELETE ON judgment BEGIN SELECT RAISE(ABORT, 'judgment is append-only'); END

CREATE TRIGGER judged_pair_no_update BEFORE UPDATE ON judged_pair BEGIN SELECT RAISE(ABORT, 'judged_pair is append-only'); END

CREATE TRIGGER judged_pair_no_delete BEFORE DELETE ON judged_pair BEGIN SELECT RAISE(ABORT, 'judged_pair is append-only'); END

CREATE TRIGGER judged_rank_no_update BEFORE UPDATE ON judged_rank BEGIN SELECT RAISE(ABORT, 'judged_rank is append-only'); END

CREATE TRIGGER judged_rank_no_delete BEFORE DELETE ON judged_rank BEGIN SELECT RAISE(ABORT, 'judged_rank is append-only'); END

CREATE TRIGGER judged_thumb_no_update BEFORE UPDATE OF judgment_id, task_id, response_id, good ON judged_thumb BEGIN SELECT RAISE(ABORT, 'judged_thumb is append-only'); END

CREATE TRIGGER judged_thumb_texts BEFORE UPDATE OF reasons ON judged_thumb WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'judged_thumb is append-only'); END

CREATE TRIGGER judged_thumb_no_delete BEFORE DELETE ON judged_thumb BEGIN SELECT RAISE(ABORT, 'judged_thumb is append-only'); END

CREATE TRIGGER judged_safety_no_update BEFORE UPDATE ON judged_safety BEGIN SELECT RAISE(ABORT, 'judged_safety is append-only'); END

CREATE TRIGGER judged_safety_no_delete BEFORE DELETE ON judged_safety BEGIN SELECT RAISE(ABORT, 'judged_safety is append-only'); END

CREATE TRIGGER judged_score_no_update BEFORE UPDATE ON judged_score BEGIN SELECT RAISE(ABORT, 'judged_score is append-only'); END

CREATE TRIGGER judged_score_no_delete BEFORE DELETE ON judged_score BEGIN SELECT RAISE(ABORT, 'judged_score is append-only'); END

CREATE TRIGGER judged_edit_no_update BEFORE UPDATE OF judgment_id, task_id, response_id, edited_id ON judged_edit BEGIN SELECT RAISE(ABORT, 'judged_edit is append-only'); END

CREATE TRIGGER judged_edit_texts BEFORE UPDATE OF critique, spans ON judged_edit WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'judged_edit is append-only'); END

CREATE TRIGGER judged_edit_no_delete BEFORE DELETE ON judged_edit BEGIN SELECT RAISE(ABORT, 'judged_edit is append-only'); END

CREATE TRIGGER adjudication_no_update BEFORE UPDATE OF judgment_id, task_id, reason ON adjudication BEGIN SELECT RAISE(ABORT, 'adjudication is append-only'); END

CREATE TRIGGER adjudication_texts BEFORE UPDATE OF note ON adjudication WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'adjudication is append-only'); END

CREATE TRIGGER adjudication_no_delete BEFORE DELETE ON adjudication BEGIN SELECT RAISE(ABORT, 'adjudication is append-only'); END

CREATE TRIGGER withdrawal_no_update BEFORE UPDATE ON withdrawal BEGIN SELECT RAISE(ABORT, 'withdrawal is append-only'); END

CREATE TRIGGER withdrawal_no_delete BEFORE DELETE ON withdrawal BEGIN SELECT RAISE(ABORT, 'withdrawal is append-only'); END

CREATE TRIGGER redaction_no_update BEFORE UPDATE ON redaction BEGIN SELECT RAISE(ABORT, 'redaction is append-only'); END

CREATE TRIGGER redaction_no_delete BEFORE DELETE ON redaction BEGIN SELECT RAISE(ABORT, 'redaction is append-only'); END

CREATE TRIGGER event_no_update BEFORE UPDATE OF id, at_ms, actor, action, entity, entity_id ON event BEGIN SELECT RAISE(ABORT, 'event is append-only'); END

CREATE TRIGGER event_texts BEFORE UPDATE OF details ON event WHEN NOT baro_redacting() BEGIN SELECT RAISE(ABORT, 'event is append-only'); END

CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'event is append-only'); END

CREATE TRIGGER draw_no_update BEFORE UPDATE ON draw BEGIN SELECT RAISE(ABORT, 'draw is append-only'); END

CREATE TRIGGER draw_no_delete BEFORE DELETE ON draw BEGIN SELECT RAISE(ABORT, 'draw is append-only'); END
