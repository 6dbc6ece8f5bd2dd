// What a first visitor finds: each tab is a .graphql file, its variables a .jsonc file beside it.
import overview from "./tabs/overview.graphql";
import pipeline from "./tabs/pipeline.graphql";
import pipelineVariables from "./tabs/pipeline.jsonc";
import progress from "./tabs/progress.graphql";
import progressVariables from "./tabs/progress.jsonc";

export const tabs = [
  { query: overview },
  { query: pipeline, variables: pipelineVariables },
  { query: progress, variables: progressVariables },
];
