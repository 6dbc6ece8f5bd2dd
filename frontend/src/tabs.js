// What a first visitor finds: each tab is a .graphql file, its variables a .json file beside it.
import overview from "./tabs/overview.graphql";
import pipeline from "./tabs/pipeline.graphql";
import pipelineVariables from "./tabs/pipeline.json";
import progress from "./tabs/progress.graphql";
import progressVariables from "./tabs/progress.json";

export const tabs = [
  { query: overview },
  { query: pipeline, variables: pipelineVariables },
  { query: progress, variables: progressVariables },
];
